"""Body landmarks of people in crops, by the pose landmarker of MediaPipe: the program that benchmarks/people_masks.py
runs in an environment that has it.

    python -m venv pose && pose/bin/pip install mediapipe==0.10.21
    pose/bin/python benchmarks/pose_landmarks.py FRAMES.npz LANDMARKS.npz

MediaPipe needs another NumPy than this project, so nothing of the project is imported here. The models are in
MediaPipe's wheel; nothing is downloaded. FRAMES.npz: `frames`, uint8 RGB [N,H,W,3]. LANDMARKS.npz: `landmarks`, float32
[N,33,4], of each x and y (shares of the frame's width and height), depth (smaller = nearer) and visibility, nan where
no pose was found; `person`, float32 [N,H,W], the probability that a pixel shows the person.
"""

import importlib.util
import os
import sys

SCALE = 4  # crops are small, and the detector expects pictures in which a person is
MARGIN = 0.3  # of the frame's height, on every side: it finds few people who fill a picture
DETECTION = 0.1  # it is a person's crop; whether there is a pose says the landmarker, with its own threshold, 0.5


def _has_landmarker() -> bool:
    import mediapipe

    return hasattr(mediapipe, 'solutions')  # newer versions have another interface, without the models


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(f'Usage: python {sys.argv[0]} FRAMES.npz LANDMARKS.npz')
    os.environ.setdefault('GLOG_minloglevel', '2')
    if importlib.util.find_spec('mediapipe') is None or not _has_landmarker():
        sys.exit(
            f'{sys.executable} has no MediaPipe, or one without its pose landmarker. Give it an environment of its own '
            '(python -m venv pose && pose/bin/pip install mediapipe==0.10.21) and name its Python: '
            '--pose_python=pose/bin/python'
        )
    import cv2
    import mediapipe
    import numpy as np

    frames = np.load(sys.argv[1])['frames']
    height, width = frames.shape[1:3]
    margin = round(MARGIN * height * SCALE)
    landmarks = np.full((len(frames), 33, 4), np.nan, np.float32)
    person = np.zeros(frames.shape[:3], np.float32)
    options = {'static_image_mode': True, 'model_complexity': 1, 'enable_segmentation': True}
    with mediapipe.solutions.pose.Pose(min_detection_confidence=DETECTION, **options) as pose:
        for number, frame in enumerate(frames):
            large = cv2.resize(frame, (width * SCALE, height * SCALE), interpolation=cv2.INTER_CUBIC)
            large = cv2.copyMakeBorder(large, *(margin,) * 4, cv2.BORDER_REPLICATE)
            found = pose.process(large)
            if found.pose_landmarks is None:
                continue
            for i, point in enumerate(found.pose_landmarks.landmark):
                x = (point.x * large.shape[1] - margin) / (width * SCALE)
                y = (point.y * large.shape[0] - margin) / (height * SCALE)
                landmarks[number, i] = x, y, point.z, point.visibility
            mask = found.segmentation_mask[margin:-margin, margin:-margin]
            person[number] = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
    np.savez(sys.argv[2], landmarks=landmarks, person=person)


if __name__ == '__main__':
    main()
