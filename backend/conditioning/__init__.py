# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model is told: camera tokens, Plücker rays and the first frame."""
