"""A small training of nnU-Net as a folder to adopt, on drawn volumes or images, or on liver slices.

    pip install nnunetv2==2.8.1
    PYTHONPATH=. python benchmarks/nnunet_training.py FOLDER --folds 0 --epochs 2 --iterations 20
    PYTHONPATH=. python benchmarks/nnunet_training.py FOLDER --task liver --liver SLICES --folds 0 1 2 3 4

Writes nnUNet_raw, nnUNet_preprocessed and nnUNet_results below FOLDER: planned, preprocessed and trained by
nnU-Net itself on the CPU in one process, with a small patch and few features, and the predictions of its
validation with probabilities; below predictions/fold_K what its predictor answers, with its sums as deployed
(half precision) and in single precision. Volumes have two organs, and differ in size and in spacing:
`organs`; `regions`, one organ in the other, as overlapping labels; `channels`, with a second one; `images`
are 2-D. What a FOLDER has of a former call is kept, so that folds can be trained one by one.
"""

import argparse
import json
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.nnunet_tasks import Task, tasks, write_raw


def fork() -> None:
    """Let nnU-Net's processes be forks of this one, which import nothing anew; compute with one thread.

    It asks for new ones, six in a training. A fork must not wait for threads that it does not have.
    """
    import torch

    torch.set_num_threads(1)
    context = multiprocessing.get_context
    setattr(  # noqa: B010  # the assignment is none that types allow
        multiprocessing, "get_context", lambda method=None: context("fork" if method == "spawn" else method)
    )


def plan(task: Task, preprocessed: Path) -> dict[str, Any]:
    """Let nnU-Net plan and preprocess, with a small network; return the plans."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    file = preprocessed / task.dataset / "nnUNetPlans.json"
    done = file.with_name("preprocessed")  # written last: plans exist before they are shrunk and used
    if not done.is_file():
        extract_fingerprints([task.number], num_processes=1, check_dataset_integrity=True)
        plan_experiments([task.number])
        plans = json.loads(file.read_text())
        configuration = plans["configurations"][task.configuration]
        configuration |= {"patch_size": list(task.patch), "batch_size": task.batch}
        configuration["architecture"]["arch_kwargs"] |= task.architecture
        file.write_text(json.dumps(plans, indent=1))
        preprocess([task.number], configurations=(task.configuration,), num_processes=(1,))
        done.touch()
    planned: dict[str, Any] = json.loads(file.read_text())
    return planned


def train(task: Task, plans: dict[str, Any], raw: Path, fold: int, *, epochs: int, iterations: int) -> None:
    """Train one fold, and predict its validation cases."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    torch.manual_seed(fold)
    np.random.seed(fold)  # noqa: NPY002  # nnU-Net draws from it
    dataset = json.loads((raw / task.dataset / "dataset.json").read_text())
    trainer = nnUNetTrainer(
        {**plans, "continue_training": False}, task.configuration, fold, dataset, torch.device("cpu")
    )
    trainer.num_epochs, trainer.num_iterations_per_epoch = epochs, iterations
    trainer.num_val_iterations_per_epoch = 1
    trainer.run_training()
    trainer.perform_actual_validation(save_probabilities=True)


def predict(task: Task, folder: Path, fold: int, unseen: Sequence[str], members: Sequence[str]) -> None:
    """Write the probabilities of nnU-Net's predictor for cases of imagesTr, in both precisions if unseen."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    from benchmarks.nnunet_volume_reference import single_precision

    training = task.training(folder)
    predictor = nnUNetPredictor(
        device=torch.device("cpu"), allow_tqdm=False, perform_everything_on_device=False
    )
    predictor.initialize_from_trained_model_folder(str(training), (fold,), "checkpoint_final.pth")
    reader = predictor.plans_manager.image_reader_writer_class()
    images = folder / "nnUNet_raw" / task.dataset / "imagesTr"
    for case in (*unseen, *members):
        files = sorted(map(str, images.glob(f"{case}_0*{task.content['file_ending']}")))
        values, properties = reader.read_images(files)
        answers = {"half": predictor.predict_single_npy_array(values, properties, None, None, True)}
        if case in unseen:
            with single_precision():
                answers["single"] = predictor.predict_single_npy_array(values, properties, None, None, True)
        for name, (_, probabilities) in answers.items():
            target = folder / "predictions" / f"fold_{fold}" / name
            target.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(target / f"{case}.npz", probabilities=probabilities)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", default="organs", choices=sorted(tasks(Path())))
    parser.add_argument("--liver", type=Path, help="folder of slices: images, masks and index.csv")
    parser.add_argument("--folds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--members", type=int, default=0, help="training cases to predict beside the others")
    parser.add_argument("--fork", action="store_true", help="start no process anew, take one thread")
    options = parser.parse_args()
    if options.task == "liver" and options.liver is None:
        parser.error("--task liver needs --liver FOLDER")
    places = {name: options.folder / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    for name, place in places.items():
        place.mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(place)
    os.environ |= {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "false"}
    if options.fork:
        fork()
    task = tasks(options.liver)[options.task]
    splits = places["nnUNet_preprocessed"] / task.dataset / "splits_final.json"
    if not (places["nnUNet_raw"] / task.dataset).is_dir():
        split = write_raw(task, places["nnUNet_raw"] / task.dataset)
        if split is not None:
            splits.parent.mkdir(parents=True)
            splits.write_text(json.dumps(split))
    plans = plan(task, places["nnUNet_preprocessed"])
    os.environ |= {"nnUNet_n_proc_DA": "0"}  # no processes, which planning does not take
    for fold in options.folds:
        train(task, plans, places["nnUNet_raw"], fold, epochs=options.epochs, iterations=options.iterations)
        cases = json.loads(splits.read_text())[fold]
        predict(task, options.folder, fold, cases["val"], cases["train"][: options.members])


if __name__ == "__main__":
    main()
