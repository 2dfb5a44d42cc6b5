"""A user's own video and the tracks of the people in it -> crops of each track, frame by frame.

Reading video needs PyAV (requirements-video.txt), which is imported when a video is opened and not before.
"""

from pvlad_jax.video.crops import Crop, CropRules, Dropped, Ended, stream_crops
from pvlad_jax.video.reader import Video, VideoError, VideoFrame, open_video
from pvlad_jax.video.tracks import FORMATS, Tracks, read_tracks

__all__ = [
    'FORMATS',
    'Crop',
    'CropRules',
    'Dropped',
    'Ended',
    'Tracks',
    'Video',
    'VideoError',
    'VideoFrame',
    'open_video',
    'read_tracks',
    'stream_crops',
]
