"""SAAL for pixels across a domain: as camvid_day_dusk_saal, but whole frames are bought.

Command: python -m experiments.run --config=camvid_day_dusk_images_saal
Data: that of camvid_day_dusk_saal.
Protocol: that of camvid_day_dusk_saal with 5 queries of 2 frames, 3.2 % of the pixels each.
Reference: none is published for this split; the SAAL authors' text, code and numbers for pixels are not public.
Deviations: the score is our reading: the mean over the pixels of their loss after the ascent.
"""

from experiments.configs import camvid_day_dusk_saal

config = camvid_day_dusk_saal.config.but(task={"rows": 1, "columns": 1}, query_size=2)
