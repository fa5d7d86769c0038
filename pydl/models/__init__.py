"""Networks by name (`create`, `list`), weights for them (`load_weights`), and their reuse (`freeze`, `replace_head`)."""

from pydl.models.alexnet import AlexNet
from pydl.models.bert import Bert, BertEmbeddings, SentenceEncoder
from pydl.models.densenet import DenseNet
from pydl.models.efficientnet import EfficientNetLite0
from pydl.models.forecaster import Forecaster
from pydl.models.g2p import GraphemeToPhoneme
from pydl.models.googlenet import GoogLeNet, GoogLeNetOutputs
from pydl.models.highway import Highway, HighwayNetwork
from pydl.models.hyper import HyperConv2d, HyperNetwork, KernelGenerator
from pydl.models.language import RNNLanguageModel, TransformerLanguageModel
from pydl.models.lecun1989 import LeCun1989
from pydl.models.lenet import LeNet5
from pydl.models.mlp import MLP
from pydl.models.mnist1d import MNIST1DConv, MNIST1DDense
from pydl.models.mobilenet import MobileNetV1
from pydl.models.nin import NetworkInNetwork
from pydl.models.pretrained import (
    Preprocessing,
    Published,
    WeightsNotFoundError,
    fetch_pretrained,
    imagenet_classes,
    load_pretrained,
    preprocessing,
    published,
)
from pydl.models.pth import read_pth
from pydl.models.recurrent import SequenceToSequence, SequenceToVector, VectorToSequence
from pydl.models.registry import Entry, create, entry, list, register
from pydl.models.resnet import PreActResNet, ResNet
from pydl.models.seq2seq import Seq2Seq
from pydl.models.shared import RecursiveConvNet, Siamese
from pydl.models.speaker import SpeakerEncoder
from pydl.models.surgery import classifiers, freeze, parameter_groups, replace_head, unfreeze
from pydl.models.tagger import RecurrentTagger
from pydl.models.tcn import TCN, TemporalConvNet
from pydl.models.text_cnn import TextCNN
from pydl.models.transformer import TransformerSeq2Seq
from pydl.models.unet import UNet
from pydl.models.vgg import VGG
from pydl.models.vit import VisionTransformer
from pydl.models.weights import load_weights, read_weights
from pydl.models.word2vec import NegativeSampler, Word2Vec, WordContexts, negative_sampling_loss
from pydl.models.xception import Xception

__all__ = [
    "AlexNet", "Bert", "BertEmbeddings", "DenseNet", "EfficientNetLite0", "Entry", "Forecaster", "GoogLeNet",
    "GoogLeNetOutputs", "GraphemeToPhoneme", "Highway", "HighwayNetwork", "HyperConv2d", "HyperNetwork",
    "KernelGenerator", "LeCun1989", "LeNet5", "MLP", "MNIST1DConv", "MNIST1DDense", "MobileNetV1", "NegativeSampler",
    "NetworkInNetwork", "PreActResNet", "Preprocessing", "Published", "RNNLanguageModel", "RecurrentTagger",
    "RecursiveConvNet", "ResNet", "SentenceEncoder", "Seq2Seq", "SequenceToSequence", "SequenceToVector", "Siamese",
    "SpeakerEncoder", "TCN", "TemporalConvNet", "TextCNN", "TransformerLanguageModel", "TransformerSeq2Seq", "UNet",
    "VGG", "VectorToSequence", "VisionTransformer", "WeightsNotFoundError", "Word2Vec", "WordContexts", "Xception",
    "classifiers", "create", "entry", "fetch_pretrained", "freeze", "imagenet_classes",
    "list", "load_pretrained", "load_weights", "negative_sampling_loss",
    "parameter_groups", "preprocessing", "published", "read_pth", "read_weights", "register", "replace_head", "unfreeze",
]
