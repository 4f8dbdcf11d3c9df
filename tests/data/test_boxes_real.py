"""The published counts of real boxes, where they are at hand."""

import numpy as np
import pytest

from saal_jax.data import load_boxes

COUNTS = {
    "bccd": ("RBC WBC Platelets", [3348, 301, 292], [805, 71, 69], (292, 30), (72, 30)),
    "neu_det": (
        "crazing inclusion patches pitted_surface rolled-in_scale scratches",
        [527, 852, 688, 345, 496, 427],
        [162, 159, 193, 87, 132, 121],
        (1440, 9),
        (360, 9),
    ),
    "cards": ("nine ten jack queen king ace", [98, 84, 95, 90, 98, 103], [17, 16, 18, 16, 20, 15], (314, 5), (49, 5)),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts(real_folder, tmp_path, name):
    data = load_boxes(name, data_dir=real_folder(name), image_size=(24, 32), cache_dir=str(tmp_path))
    names, train, test, train_shape, test_shape = COUNTS[name]
    assert data.class_names == tuple(names.split())
    for split, counts, shape in ((data.train, train, train_shape), (data.test, test, test_shape)):
        corners, classes, crowd = split.labels
        assert classes.shape == shape and split.images.shape == (shape[0], 24, 32, 3) and not crowd.any()
        assert np.bincount(classes[classes >= 0]).tolist() == counts
        sides = corners[classes >= 0][:, 2:] - corners[classes >= 0][:, :2]
        assert (sides > 0).all() and corners.min() >= 0 and corners.max() <= 1
    # in pixels of the image as stored: the median square root of a box's area
    if name == "bccd":
        areas = np.prod((corners[..., 2:] - corners[..., :2]) * [640, 480], -1)[classes >= 0]
        assert 95 < np.median(np.sqrt(areas)) < 111
