"""The pre-trained models the platform builds on: which, under what licence, and where they are kept.

A model is named by its role (`scene.videomae_base`), and a `BackboneStore` finds the role's files, in this order: a
local bundle folder, a bundle below an object store prefix, and, only when allowed, the hub. A bundle is

    <bundle>/manifest.json      what is in it: source, exact commit, licence, kind of weights, SHA-256 of every file
    <bundle>/<role>/...         the files as Hugging Face, timm or ONNX write them; never a pickle

`jobs/fetch_models.py` fills a bundle from the hub and `jobs/make_debug_models.py` with seeded random weights of the
same architectures; what loads them is the same code. The catalogue names branches where no commit could be verified
while it was written: the pin is the commit that the fetching job resolves and writes into the manifest.
"""

from twominds.backbones.bundle import (
    MANIFEST,
    BundleEntry,
    WeightsKind,
    add_to_bundle,
    file_sha256,
    read_manifest,
)
from twominds.backbones.catalogue import BACKBONES, Backbone, catalogue_entry
from twominds.backbones.store import BackboneStore, cache_folder

__all__ = [
    "BACKBONES",
    "MANIFEST",
    "Backbone",
    "BackboneStore",
    "BundleEntry",
    "WeightsKind",
    "add_to_bundle",
    "cache_folder",
    "catalogue_entry",
    "file_sha256",
    "read_manifest",
]
