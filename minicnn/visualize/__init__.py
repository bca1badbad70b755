"""Pictures of data, results and networks: each function returns a matplotlib figure whose title states the finding.

Nothing is shown and no global state is touched (no pyplot): ``figure.savefig("curves.png")`` writes a file, and in a
notebook a figure that ends a cell appears. Colours are those of Okabe and Ito, which colour-blind readers can tell
apart; where two lines share a panel they also differ in dash and marker.
"""

from minicnn.visualize.confusion import confused_pairs, confusion_matrix
from minicnn.visualize.curves import training_curves
from minicnn.visualize.drawing import Picture
from minicnn.visualize.gallery import mistakes
from minicnn.visualize.grids import first_images, mean_images, sample_grid
from minicnn.visualize.inside import feature_maps, filters

__all__ = ["Picture", "confused_pairs", "confusion_matrix", "feature_maps", "filters", "first_images", "mean_images",
           "mistakes", "sample_grid", "training_curves"]
