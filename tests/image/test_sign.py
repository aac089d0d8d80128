"""Signing: nothing secret is published, and nothing is signed that no device would accept."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.conftest import Images
from tests.support.bench import Ran, ota
from tests.support.chains import SERVER_AUTH, Party, intermediate, issue, root

NOW = datetime.now(timezone.utc)
SOON, LONG_AGO = NOW + timedelta(days=9), NOW - timedelta(days=9)


@pytest.fixture
def image(images: Images, tmp_path: Path) -> Path:
    """A copy of a signed image."""
    return Path(shutil.copytree(images.directory / "v1", tmp_path / "image"))


def sign(image: Path, by: Party, **environment: str) -> Ran:
    """Signs with a file that holds both the certificate and the key."""
    both = image.parent / "signer.pem"
    both.write_bytes(by.key_pem + by.pem)
    return ota("image", "sign", image, "--key", both, "--cert", both, env=environment)


def test_a_key_that_is_in_the_file_of_the_certificate_is_not_published(image: Path) -> None:
    signer = issue("Signer", root(), start=LONG_AGO, end=SOON)
    assert sign(image, signer).code == 0
    assert (image / "sign.pem").read_bytes() == signer.pem


@pytest.mark.parametrize(
    "signer",
    [
        root(start=LONG_AGO, end=SOON),
        intermediate(root(), start=LONG_AGO, end=SOON),
        issue("Signer", root(), start=LONG_AGO, end=SOON, extended=[SERVER_AUTH]),
        issue("Signer", root(), start=LONG_AGO, end=NOW - timedelta(days=1)),
        issue("Signer", root(), start=SOON, end=SOON),
    ],
    ids=["a CA", "an intermediate", "a server", "expired", "not yet valid"],
)
def test_a_certificate_that_no_device_accepts_signs_nothing(image: Path, signer: Party) -> None:
    before = (image / "metadata.jwt").read_bytes()
    done = sign(image, signer)
    assert done.code == 10, done.err
    assert (image / "metadata.jwt").read_bytes() == before


def test_a_build_date_beyond_the_end_of_the_certificate_is_refused(image: Path) -> None:
    signer = issue("Signer", root(), start=LONG_AGO, end=SOON)
    later = str(int((SOON + timedelta(days=1)).timestamp()))
    done = sign(image, signer, SOURCE_DATE_EPOCH=later)
    assert done.code == 10
    assert "before the image is made" in done.err


def test_an_image_with_claims_that_no_device_reads_is_not_signed(image: Path) -> None:
    draft = (image / "image.json").read_text()
    for wrong in (draft.replace('"v1"', "5"), draft.replace('size": ', 'size": -'), "[" * 50_000):
        (image / "image.json").write_text(wrong)
        assert sign(image, issue("Signer", root(), start=LONG_AGO, end=SOON)).code == 12


@pytest.mark.parametrize("epoch", ["", "soon", "²", "99999999999999999"])
def test_a_build_date_that_is_none_is_a_configuration_error(image: Path, epoch: str) -> None:
    signer = issue("Signer", root(), start=LONG_AGO, end=SOON)
    done = sign(image, signer, SOURCE_DATE_EPOCH=epoch)
    assert done.code == 78
    assert "SOURCE_DATE_EPOCH" in done.err


def test_a_key_file_that_is_too_large_is_a_configuration_error(image: Path) -> None:
    big = image.parent / "big"
    big.write_bytes(bytes(100_000))
    assert ota("image", "sign", image, "--key", big, "--cert", big).code == 78
