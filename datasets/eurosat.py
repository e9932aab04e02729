"""EuroSAT (Helber et al. 2019), the RGB images."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.reader import SplitReader

NAMES = {
    "AnnualCrop": "Annual Crop Land",
    "Forest": "Forest",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "River": "River",
    "SeaLake": "Sea or Lake",
}


@DATASET_REGISTRY.register()
class EuroSAT(SplitReader):
    """10 kinds of land; the image folder is named 2750, as in the archive."""

    dataset_dir = "eurosat"
    image_dir = "2750"
    layout = "2750/<Class>/<Class>_<n>.jpg\nsplit_zhou_EuroSAT.json"
    elsewhere = {
        "": ("EuroSAT", "EuroSAT_RGB"),
        "2750": ("eurosat/EuroSAT_RGB", "eurosat/EuroSAT", "EuroSAT/2750", "2750"),
    }
    renamed = NAMES
