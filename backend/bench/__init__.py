# SPDX-License-Identifier: GPL-3.0-or-later
"""Are the operators right on this device, how fast are they and the stages, and how far is that from the limit?"""
