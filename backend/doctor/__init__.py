# SPDX-License-Identifier: GPL-3.0-or-later
"""What this machine can run: the machine, the weights, the operators and the presets, told before any work starts."""
