"""From a folder of photos to served samples: what is trained on own data is served as it is."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from PIL import ImageDraw

from app.main import create_app
from app.settings import Settings
from training.__main__ import main
from training.data.pictures import read_picture
from training.evaluation import cas, judge, measures
from training.evaluation.evaluate import Effort
from training.loops import prior_fit
from training.networks.checkpoint import load
from training.release import tone_curve
from training.release.portable import quantise

NAMES = ("ankle boot", "sneaker", "été & 写真", "100%/+")
QUICK = ["--threads", "1"]
SHORT = [*QUICK, "--max-steps", "2"]


def photo(label: int, seed: int) -> PillowImage.Image:
    """A shape of its class's colour on noise, of any size."""
    random = np.random.default_rng(1000 * label + seed)
    width, height = random.integers(24, 90, 2)
    noise = random.integers(0, 90, (height, width, 3), dtype=np.uint8)
    picture = PillowImage.fromarray(noise)
    box = [width // 4, height // 4, width * 3 // 4, height * 3 // 4]
    draw = ImageDraw.Draw(picture)
    colour = [(240, 40, 40), (40, 240, 40), (60, 60, 250), (240, 240, 40)][label]
    (draw.ellipse if label % 2 else draw.rectangle)(box, fill=colour)
    return picture


def write_photos(root: Path, names: tuple[str, ...] = NAMES, count: int = 12) -> Path:
    for label, name in enumerate(names):
        folder = root / name.replace("/", "\N{DIVISION SLASH}")
        folder.mkdir(parents=True)
        for seed in range(count):
            photo(label % 4, seed).save(folder / f"{seed}.jpg", quality=90)
    return root


@pytest.fixture(scope="module", autouse=True)
def _as_it_was() -> Iterator[None]:
    """No progress bars; and undo what the command line sets."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TQDM_DISABLE", "1")
        monkeypatch.setattr(judge, "LEAST_STEPS", 20)
        monkeypatch.setattr(Effort.__init__, "__defaults__", (50, 20, 3, 10))
        monkeypatch.setattr(cas, "STEPS", 2)
        monkeypatch.setattr(measures, "KID_SUBSETS", 2)
        monkeypatch.setattr(prior_fit, "BATCH", 16)
        monkeypatch.setattr(tone_curve, "SAMPLES", 200)
        monkeypatch.setattr(quantise, "TABLE", 256)
        monkeypatch.setattr(quantise, "CALIBRATION", 64)
        yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder where a model of each kind was trained on photos and published."""
    here = tmp_path_factory.mktemp("here")
    before = Path.cwd()
    os.chdir(here)
    try:
        write_photos(here / "My Shoes")
        for seed in range(30):  # of no class, and grey
            Path("flat").mkdir(exist_ok=True)
            photo(seed % 4, seed).convert("L").save(f"flat/{seed}.png")
        shoes = ["--data", "My Shoes", "--image-size", "32", *QUICK]
        main(["cgan", *shoes, "--data-licence", "CC0", "--max-steps", "3"])
        main(["publish", "runs/cgan-compact-001", *QUICK])
        main(["vae", *shoes, "--epochs", "1", "--prior-steps", "2"])
        main(["publish", "runs/vae-compact-001", *QUICK])
        main(["gan", "--data", "flat", "--image-size", "64", *SHORT])
        main(["publish", "runs/gan-compact-001", *QUICK])
        yield here
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
async def photos_client(workplace: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service over what was published."""
    app = create_app(Settings(models_dir=workplace / "models_store", max_batch=8))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


def shape_of(png: bytes) -> tuple[int, ...]:
    with PillowImage.open(BytesIO(png)) as picture:
        return np.asarray(picture).shape


def label_of(name: str) -> str:
    return name.replace("/", "\N{DIVISION SLASH}")


async def test_all_three_are_served_with_their_shapes_and_labels(
    photos_client: httpx.AsyncClient,
) -> None:
    body = (await photos_client.get("/models")).json()
    assert body["refused"] == {}
    cards = {card["name"]: card for card in body["models"]}
    assert set(cards) == {"my-shoes-cgan-v1", "my-shoes-vae-v1", "flat-gan-v1"}
    assert cards["my-shoes-cgan-v1"]["labels"] == sorted(map(label_of, NAMES))
    assert cards["my-shoes-cgan-v1"]["image_shape"] == [3, 32, 32]
    assert cards["flat-gan-v1"]["image_shape"] == [1, 64, 64]
    data = cards["my-shoes-cgan-v1"]["data"]
    assert (data["name"], data["licence"], data["source"]) == ("my-shoes", "CC0", "folder")
    assert cards["flat-gan-v1"]["data"]["licence"] == "unknown"


@pytest.mark.parametrize("name", NAMES)
async def test_a_sample_of_a_class_is_asked_for_by_its_name(
    photos_client: httpx.AsyncClient, name: str
) -> None:
    name = label_of(name)
    answer = await photos_client.post("/generate", params={"label": name, "seed": 3})
    assert answer.status_code == 200, answer.text
    assert shape_of(answer.content) == (32, 32, 3)
    same = await photos_client.get(answer.headers["content-location"])
    assert same.content == answer.content
    index = sorted(map(label_of, NAMES)).index(name)
    by_index = await photos_client.get(f"/generate?label={index}&seed=3")
    assert by_index.content == answer.content
    item = (
        await photos_client.get("/generate", params={"label": name, "seed": 3, "format": "json"})
    ).json()["items"][0]
    assert item["label"] == name
    assert (await photos_client.get(item["permalink"])).content == answer.content


async def test_several_in_colour_are_one_sheet_or_an_array(
    photos_client: httpx.AsyncClient,
) -> None:
    answer = await photos_client.get("/generate?n=5&model=my-shoes-cgan-v1&scale=2")
    assert shape_of(answer.content) == (2 * 2 * 32, 3 * 2 * 32, 3)
    array = await photos_client.get("/generate?n=5&model=my-shoes-cgan-v1&format=npy")
    assert np.load(BytesIO(array.content)).shape == (5, 32, 32, 3)
    grey = await photos_client.get("/generate?n=2&model=flat-gan-v1&format=npy")
    assert np.load(BytesIO(grey.content)).shape == (2, 64, 64)


async def test_a_picture_of_another_size_is_encoded_as_training_would_see_it(
    photos_client: httpx.AsyncClient, workplace: Path
) -> None:
    wide = BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (60, 180, 3), dtype=np.uint8)
    PillowImage.fromarray(noise).save(wide, "PNG")
    seen = BytesIO()
    PillowImage.fromarray(read_picture(wide.getvalue(), 32)).save(seen, "PNG")
    results = []
    for picture in (wide, seen):
        answer = await photos_client.post(
            "/encode", content=picture.getvalue(), headers={"content-type": "image/png"}
        )
        assert answer.status_code == 200, answer.text
        results.append(answer.json()["items"][0]["mu"])
    assert results[0] == results[1]
    with (workplace / "My Shoes/sneaker/3.jpg").open("rb") as file:
        again = await photos_client.post("/reconstruct", files={"file": file})
    assert shape_of(again.content) == (32, 32, 3)


def test_the_header_tells_the_way_back_but_no_path(workplace: Path) -> None:
    for name in ("my-shoes-cgan-v1", "flat-gan-v1"):
        path = workplace / "models_store" / f"{name}.safetensors"
        assert str(workplace) not in path.with_suffix(".md").read_text()
        assert str(workplace).encode() not in path.read_bytes()
    card = (workplace / "models_store/my-shoes-cgan-v1.md").read_text()
    assert "evaluate my-shoes-cgan-v1 --data FOLDER` measures" in card
    command = load(workplace / "models_store/my-shoes-cgan-v1.safetensors")[1].training["command"]
    assert "--data 'My Shoes' --image-size 32 --image-channels 3" in command


def test_evaluate_needs_the_folder_and_measures_what_was_stated(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"was trained on a folder called 'my-shoes'.*--data"):
        main(["evaluate", "my-shoes-cgan-v1", *QUICK])
    main(["evaluate", "my-shoes-cgan-v1", "--data", "My Shoes", *QUICK])
    told = capsys.readouterr()
    assert "do not compare" not in told.err
    for line in told.out.splitlines():
        if line.startswith("frechet_test "):
            _, now, _floor, stated, *_ = line.split()
            assert now == stated
    with pytest.raises(SystemExit, match="the classes of flat are unlabelled; name its own data"):
        main(["evaluate", "my-shoes-cgan-v1", "--data", "flat", *QUICK])
    write_photos(workplace / "others", names=("a", "b"), count=15)
    main(["evaluate", "my-shoes-vae-v1", "--data", "others", *QUICK])
    assert "the training images of others are not those" in capsys.readouterr().err


def test_a_folder_that_moved_is_named_anew_and_one_that_changed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos", names=("a", "b"))
    main(["cgan", "--data", "photos", *SHORT])
    run = Path("runs/cgan-compact-001")
    config = json.loads((run / "config.json").read_text())
    assert config["data"]["source"] == str(tmp_path / "photos")
    assert (config["data"]["image_size"], config["data"]["image_channels"]) == (28, 3)
    resume = ["cgan", "--resume", str(run), *QUICK, "--max-steps", "3"]
    Path("photos").rename("moved")
    with pytest.raises(SystemExit, match="photos is gone; name its new place with --data"):
        main(resume)
    main([*resume, "--data", "moved"])
    main(resume)  # the new place was written down
    photo(3, 999).save("moved/a/another.jpg")
    for command in (resume, ["publish", str(run), *QUICK]):
        with pytest.raises(SystemExit, match="have changed: 'a' has 12 images instead of 11"):
            main(command)


def test_a_conditional_gan_needs_two_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos", names=("only",), count=24)
    with pytest.raises(SystemExit, match=r"the data has one class, 'only'.*or train a gan"):
        main(["cgan", "--data", "photos", *SHORT])
    assert not Path("runs").exists()
    main(["gan", "--data", "photos", *SHORT])


def test_three_hundred_classes_of_few_pictures_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = tuple(f"class {index:03}" for index in range(300))
    write_photos(tmp_path / "many", names=names, count=2)
    main(["cgan", "--data", "many", *SHORT])
    config = json.loads(Path("runs/cgan-compact-001/config.json").read_text())
    assert config["run"]["network"]["num_classes"] == 300
    # Few pictures: smaller batches, more of them.
    assert config["run"]["batch_size"] == 32
    assert config["run"]["epochs"] * (300 // 32) >= 1000
