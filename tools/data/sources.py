"""Where the files of each dataset come from and where they go: data, no code that acts.

Addresses and digests of archives are those of torchvision's classes where it has one. Sizes are for
planning; what counts during a transfer is the length that the server states.
"""

from datasets.splits import PARTS
from tools.data.parts import Images, Part, Source

MB, GB = 10**6, 10**9


def drive(identifier: str) -> tuple[str, ...]:
    """Address of a file on Google Drive; `confirm` skips the page about virus scans."""
    base = "https://drive.usercontent.google.com/download"
    return (f"{base}?id={identifier}&export=download&confirm=t",)


def drive_page(identifier: str) -> str:
    """Page of the same file for a browser."""
    return f"https://drive.google.com/file/d/{identifier}/view"


def on_drive(file: str, identifier: str, instead: tuple[str, ...] = (), size: int = 0) -> Part:
    """A small file on Google Drive, taken as it is."""
    return Part(
        file=file,
        files=(file,),
        how="file",
        urls=drive(identifier),
        size=size,
        instead=instead,
        by_hand=drive_page(identifier),
    )


def split(name: str, identifier: str, instead: tuple[str, ...] = (), size: int = 0) -> Part:
    """The split file of CoOp for a dataset."""
    return on_drive(f"split_zhou_{name}.json", identifier, instead, size)


def classnames(variant: bool = False) -> Part:
    """The names of ImageNet's classes; a variant does with those of ImageNet beside it."""
    instead = ("../imagenet/classnames.txt",) if variant else ()
    return on_drive("classnames.txt", "1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF", instead, 22_000)


VGG = "https://www.robots.ox.ac.uk/~vgg/data"
HF = "https://huggingface.co/datasets"
BERKELEY = "https://people.eecs.berkeley.edu/~hendrycks"
IMAGENET_PAGE = "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php (with a login)"
SKETCH = "1Mj0i5HBthqH1p_yeXzsg22gZduvgoNeA"
UCF = "10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O"
CARS_LISTS = (
    "devkit/cars_train_annos.mat",
    "devkit/cars_meta.mat",
    "cars_test_annos_withlabels.mat",
)
SUN_LISTS = ("ClassName.txt", "Training_01.txt", "Testing_01.txt")
UCF_LISTS = tuple(f"ucfTrainTestlist/{n}.txt" for n in ("classInd", "trainlist01", "testlist01"))
CARS_BY_HAND = (
    "somebody who has it (its host, ai.stanford.edu/~jkrause, is gone; users' hints: "
    "https://github.com/pytorch/vision/issues/7545)"
)
CARS_NOTE = (
    "The files must have their original names: packages that number the images anew do not fit "
    "the lists"
)
SUN_BY_HAND = (
    "somebody who has it (its hosts, vision.princeton.edu and mirrors, are gone; users' hints: "
    "https://github.com/KaiyangZhou/CoOp/issues/90, "
    "https://github.com/pytorch/vision/issues/9348)"
)
SUN_NOTE = (
    "The tree must be SUN397/<letter>/<class>/: packages with another tree do not fit the lists"
)

SOURCES: dict[str, Source] = {
    "imagenet": Source(
        "ImageNet",
        (
            Part(
                file="ILSVRC2012_img_train.tar",
                images=Images("images/train", 1_281_167),
                how="imagenet_train",
                size=147_897_477_120,
                digest="md5:1d675b47d978889d74fa0da5fadfb00e",
                by_hand=IMAGENET_PAGE,
            ),
            Part(
                file="ILSVRC2012_img_val.tar",
                images=Images("images/val", 50_000),
                how="imagenet_val",
                size=6_744_924_160,
                digest="md5:29b22e2961454d5413ddabcf34fc5622",
                by_hand=IMAGENET_PAGE,
            ),
            classnames(),
        ),
    ),
    "caltech101": Source(
        "Caltech101",
        (
            Part(
                file="caltech-101.zip",
                images=Images("101_ObjectCategories", 8_242),
                urls=("https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",),
                size=137_414_764,
                digest="md5:3138e1922a9193bfa496528edbbc45d0",
                inner="caltech-101/101_ObjectCategories.tar.gz",
                content=("101_ObjectCategories",),
                by_hand="https://data.caltech.edu/records/mzrjq-6wc02",
            ),
            split("Caltech101", "1hyarUivQE36mY6jSomru6Fjd-JzwcCzN", size=809_184),
        ),
    ),
    "oxford_pets": Source(
        "OxfordPets",
        (
            Part(
                file="images.tar.gz",
                images=Images("images", 7_349, (0,)),
                urls=(f"{VGG}/pets/data/images.tar.gz",),
                size=791_918_971,
                digest="md5:5c4f3ee8e5d25df40f4fd59a7f44e54c",
                content=("images",),
                by_hand=f"{VGG}/pets/",
            ),
            Part(
                file="annotations.tar.gz",
                files=("annotations/trainval.txt", "annotations/test.txt"),
                instead=("split_zhou_OxfordPets.json",),
                urls=(f"{VGG}/pets/data/annotations.tar.gz",),
                size=19_173_078,
                digest="md5:95a8c909bbe2e81eed6a22bccdf3f68f",
                content=("annotations",),
                by_hand=f"{VGG}/pets/",
            ),
        ),
    ),
    "stanford_cars": Source(
        "StanfordCars",
        (
            Part(
                file="cars_train.tgz",
                images=Images("cars_train", 8_144, (0,)),
                size=980 * MB,
                published="md5:065e5b463ae28d29e77c1b4b166cfe61",
                content=("cars_train/cars_train", "cars_train"),
                by_hand=CARS_BY_HAND,
                note=CARS_NOTE,
            ),
            Part(
                file="cars_test.tgz",
                images=Images("cars_test", 8_041, (0,)),
                size=980 * MB,
                published="md5:4ce7ebf6a94d07f1952d94dd34c4d501",
                content=("cars_test/cars_test", "cars_test"),
                by_hand=CARS_BY_HAND,
                note=CARS_NOTE,
            ),
            split("StanfordCars", "1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT", CARS_LISTS, size=1_855_652),
        ),
    ),
    "oxford_flowers": Source(
        "OxfordFlowers",
        (
            Part(
                file="102flowers.tgz",
                images=Images("jpg", 8_189, (0,)),
                urls=(f"{VGG}/flowers/102/102flowers.tgz",),
                size=344_862_509,
                digest="md5:52808999861908f626f3c1f4e79d11fa",
                content=("jpg",),
                by_hand=f"{VGG}/flowers/102/",
            ),
            Part(
                file="imagelabels.mat",
                files=("imagelabels.mat",),
                instead=("split_zhou_OxfordFlowers.json",),
                how="file",
                urls=(f"{VGG}/flowers/102/imagelabels.mat",),
                size=502,
                digest="md5:e0620be6f572b9609742df49c70aed4d",
                by_hand=f"{VGG}/flowers/102/",
            ),
            Part(
                file="cat_to_name.json",
                files=("cat_to_name.json",),
                instead=("split_zhou_OxfordFlowers.json",),
                how="flower_names",
                by_hand=drive_page("1AkcxCXeK_RCGCEC_GvmWxjcjaNhu-at0"),
            ),
        ),
    ),
    "food101": Source(
        "Food101",
        (
            Part(
                file="food-101.tar.gz",
                images=Images("images", 101_000),
                urls=("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",),
                size=4_996_278_331,
                digest="md5:85eeb15f3717b99a5da872d97d918f87",
                content=("food-101/*",),
                by_hand="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
            ),
            split("Food101", "1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl"),
        ),
    ),
    "fgvc_aircraft": Source(
        "FGVCAircraft",
        (
            Part(
                file="fgvc-aircraft-2013b.tar.gz",
                images=Images("images", 10_000, (0,)),
                files=("variants.txt", *(f"images_variant_{part}.txt" for part in PARTS)),
                urls=(f"{VGG}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",),
                size=2_753_340_328,
                content=("fgvc-aircraft-2013b/data/*",),
                by_hand=f"{VGG}/fgvc-aircraft/",
            ),
        ),
    ),
    "sun397": Source(
        "SUN397",
        (
            Part(
                file="SUN397.tar.gz",
                images=Images("SUN397", 39_700, (2, 3)),
                size=39 * GB,
                digest="md5:8ca2778205c41d23104230ba66911c7a",
                content=("SUN397",),
                by_hand=SUN_BY_HAND,
                note=SUN_NOTE,
            ),
            split("SUN397", "1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq", SUN_LISTS),
        ),
    ),
    "dtd": Source(
        "DescribableTextures",
        (
            Part(
                file="dtd-r1.0.1.tar.gz",
                images=Images("images", 5_640),
                urls=(f"{VGG}/dtd/download/dtd-r1.0.1.tar.gz",),
                size=625_239_812,
                digest="md5:fff73e5086ae6bdbea199a49dfb8a4c1",
                content=("dtd/*",),
                by_hand=f"{VGG}/dtd/",
            ),
            split("DescribableTextures", "1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x", size=563_702),
        ),
    ),
    "eurosat": Source(
        "EuroSAT",
        (
            Part(
                file="EuroSAT.zip",
                images=Images("2750", 27_000),
                urls=(
                    f"{HF}/torchgeo/eurosat/resolve/"
                    "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
                ),
                size=94_280_567,
                digest="md5:c8fa014336c82ac7804f0398fcb19387",
                content=("2750", "EuroSAT/2750"),
                by_hand=f"{HF}/torchgeo/eurosat (the RGB images, EuroSAT.zip)",
            ),
            split("EuroSAT", "1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o", size=3_006_492),
        ),
    ),
    "ucf101": Source(
        "UCF101",
        (
            Part(
                file="UCF-101-midframes.zip",
                images=Images("UCF-101-midframes", 13_320),
                urls=drive(UCF),
                content=("UCF-101-midframes",),
                by_hand=drive_page(UCF),
            ),
            split("UCF101", "1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y", UCF_LISTS, size=1_557_485),
        ),
    ),
    "imagenetv2": Source(
        "ImageNetV2",
        (
            Part(
                file="imagenetv2-matched-frequency.tar.gz",
                images=Images("imagenetv2-matched-frequency-format-val", 10_000),
                urls=(
                    f"{HF}/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz",
                ),
                size=1_260 * MB,
                content=("imagenetv2-matched-frequency-format-val", "imagenetv2-matched-frequency"),
                by_hand=f"{HF}/vaishaal/ImageNetV2",
            ),
            classnames(variant=True),
        ),
    ),
    "imagenet_sketch": Source(
        "ImageNetSketch",
        (
            Part(
                file="ImageNet-Sketch.zip",
                images=Images("images", 50_889),
                urls=drive(SKETCH),
                size=7_600 * MB,
                content=("sketch", "ImageNet-Sketch/sketch", "images"),
                by_hand=f"https://github.com/HaohanWang/ImageNet-Sketch, or {drive_page(SKETCH)}",
            ),
            classnames(variant=True),
        ),
    ),
    "imagenet_a": Source(
        "ImageNetA",
        (
            Part(
                file="imagenet-a.tar",
                images=Images("imagenet-a", 7_500),
                urls=(f"{BERKELEY}/imagenet-a.tar",),
                size=687 * MB,
                content=("imagenet-a",),
                by_hand="https://github.com/hendrycks/natural-adv-examples",
            ),
            classnames(variant=True),
        ),
    ),
    "imagenet_r": Source(
        "ImageNetR",
        (
            Part(
                file="imagenet-r.tar",
                images=Images("imagenet-r", 30_000),
                urls=(f"{BERKELEY}/imagenet-r.tar",),
                size=2_190 * MB,
                content=("imagenet-r",),
                by_hand="https://github.com/hendrycks/imagenet-r",
            ),
            classnames(variant=True),
        ),
    ),
}
