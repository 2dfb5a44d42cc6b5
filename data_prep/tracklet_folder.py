"""The reader of folders of tracklets under its former path, which code of others imports."""

from data_prep.datasets.tracklet_folder.scan import scan_tracklet_folder

__all__ = ['scan_tracklet_folder']
