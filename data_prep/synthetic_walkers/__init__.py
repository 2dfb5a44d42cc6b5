"""Synthetic walkers: rendered pedestrians for demonstrations and tests, everything from one seed.

body, gait -> skeleton      bone lengths and joint angles give joints in space
clothes, paint -> figure    the dressed body as capsules
camera, background, occluders, render
people -> tracklets -> filming -> frames; limbs, limb_maps: which limb is seen where
"""
