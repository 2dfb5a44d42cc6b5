"""Real tracklets from a folder, on two CPU cores: a small network that learns from scratch.

python data_prep/build_tfds.py --dataset=tracklet_folder --source=FOLDER --name=my_tracklets --data_dir=data
python main.py --config=configs/tracklet_folder.py --config.dataset.name=my_tracklets --workdir=runs/my_tracklets

These settings are for learning from scratch, where they do better than those of configs/recipe.py
(docs/notes/recipe_trials.md). With weights of a network that knows people, train with configs/mars_panels.py instead:
--config.dataset.name=my_tracklets
"""

from configs import default


def get_config(arguments: str = ''):
    c = default.get_config()
    c.dataset.name = 'tracklet_folder'
    c.clips.frames, c.clips.stride = 4, 2
    c.clips.height, c.clips.width = 80, 40
    c.batch.identities, c.batch.tracklets = 12, 4
    c.model.bnneck = True  # from scratch, the losses on a bare embedding collapse it to a point
    c.model.embedding_dim = 256
    c.optimizer.learning_rate = 2e-3
    c.training.steps = 800
    c.training.log_every = 20
    c.training.eval_every = 200
    c.training.eval_untrained = True
    c.training.checkpoint_every = 100
    return default.apply_arguments(c, arguments)
