"""What can go wrong. Each error's message is the sentence the user reads."""


class TwomindsError(Exception):
    """Base of every error the platform raises on purpose: the message says what is wrong and what to do."""


class MediaError(TwomindsError):
    """A file cannot be read as video or sound; names the file."""


class CorpusError(TwomindsError):
    """A corpus, a manifest or a row of it is not what its layout promises; names the file."""


class ConfigError(TwomindsError):
    """A setting is out of its range or two settings contradict each other; names the setting."""


class BackboneError(TwomindsError):
    """Pre-trained weights are missing or do not fit; names the role and the job that provides them."""


class ArtifactError(TwomindsError):
    """Something trained cannot be read or does not fit what it is used for; names the folder."""


class MissingInputError(TwomindsError):
    """A job's input is not there yet; names the path and the job that makes it."""


class SelectionError(TwomindsError):
    """A split was asked for that the caller's protocol may not see."""


class TrainingError(TwomindsError):
    """Training came to nothing (a loss that is not a number, no clip to train on); says when and what to change."""
