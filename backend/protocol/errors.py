# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error of the contract between Blender and the backend."""


class ProtocolError(ValueError):
    """Something in a shot, preset or job is not usable; the message is a sentence for the user."""
