"""Training states out of and into keras.optimizers.AdamW.

Reading takes what `roberta.common.training.optimizer_state` needs and refuses what it has no place for; filling checks
everything first and then sets the moments and the step. Settings are the caller's: make the optimizer from
`Group.arguments`.
"""

from roberta.common.formats.safetensors_file import numpy_dtype
from roberta.common.training.optimizer_state import Group, TrainingState, check_fits, entries, refuse
from roberta.tf.weights import assign, canonical_array, keras, native, to_numpy

MOMENT_ATTRIBUTES = {"exp_avg": "_momentums", "exp_avg_sq": "_velocities"}  # moment -> attribute of Keras' optimizer
REFUSED_OPTIONS = ("amsgrad", "use_ema", "gradient_accumulation_steps")  # they change the update, or keep more tensors

Named = dict[str, tuple[keras.Variable, bool]]  # canonical name -> Keras' variable, and whether it is stored transposed


def read_optimizer(
    optimizer: keras.optimizers.Optimizer, model: keras.Model, named: Named | None = None
) -> TrainingState:
    """The state of a `keras.optimizers.AdamW`, or a subclass, over variables of one of our TensorFlow models.

    Args:
        named: the variables that are trained, where they are not the model's own.

    Raises:
        ValueError: the optimizer has an option of no other framework, or variables that are not of the model.
    """
    found, moments = _moments(optimizer, model, named)
    arrays = {entry: canonical_array(variable, is_turned) for entry, (variable, is_turned) in moments.items()}
    decay = float(optimizer.weight_decay or 0.0)
    decays = {name: decay if optimizer._use_weight_decay(variable) else 0.0 for name, (variable, _) in found.items()}
    shared = (float(to_numpy(optimizer.learning_rate)), optimizer.beta_1, optimizer.beta_2, optimizer.epsilon)
    groups = tuple(
        Group(*shared, value, tuple(name for name in found if decays[name] == value))
        for value in sorted(set(decays.values()), reverse=True)
    )
    return TrainingState(int(to_numpy(optimizer.iterations)), arrays, groups, "the Keras optimizer")


def fill_optimizer(
    state: TrainingState, optimizer: keras.optimizers.Optimizer, model: keras.Model, named: Named | None = None
) -> None:
    """Set moments and step of a `keras.optimizers.AdamW`, or a subclass, over one of our TensorFlow models.

    An optimizer that has made no step yet is built over the model's trainable variables.

    Args:
        named: as in `read_optimizer`.

    Raises:
        CheckpointError: a moment is missing, unknown or of the wrong shape; moments and step are as they were.
    """
    _, moments = _moments(optimizer, model, named)
    wanted = {}
    for entry, (variable, is_turned) in moments.items():
        shape = tuple(variable.shape)
        wanted[entry] = (shape[::-1] if is_turned else shape, numpy_dtype(variable.dtype))
    check_fits(state, wanted)
    for entry, (variable, is_turned) in moments.items():
        assign(variable, state.moments[entry], is_turned)
    optimizer.iterations.assign(state.step)


def _moments(optimizer: keras.optimizers.Optimizer, model: keras.Model, named: Named | None) -> tuple[Named, Named]:
    """The variables that an optimizer trains, by canonical name, and its moments by entry."""
    if not isinstance(optimizer, keras.optimizers.AdamW):
        raise TypeError(f"the optimizer is a {type(optimizer).__name__}, and must be a keras.optimizers.AdamW")
    refuse({option: getattr(optimizer, option) for option in REFUSED_OPTIONS})
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    places = {id(variable): place for place, variable in enumerate(optimizer._trainable_variables)}
    found = {name: pair for name, pair in (named or native(model)).items() if id(pair[0]) in places}
    if len(found) < len(places):
        raise ValueError(f"the optimizer has {len(places) - len(found)} variables that are not of the model")
    moments = {
        entry: (getattr(optimizer, MOMENT_ATTRIBUTES[moment])[places[id(found[name][0])]], found[name][1])
        for moment, name, entry in entries(found)
    }
    return found, moments
