# SPDX-License-Identifier: GPL-3.0-or-later
"""Training data: clips with camera, depth and caption from the generator, Blender or footage, in shards."""
