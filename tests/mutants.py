"""Seeded mistakes, each in a copy of the code, each of which a test must catch: `make mutants`.

Prints one line per mistake and exits with 1 if no test notices one. Some of them need the reference outputs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
JOBS = 2
GOLDEN = "tests/every_backend/test_golden.py"
SETTINGS = "tests/every_backend/test_golden_settings.py"
CACHED = "tests/every_backend/test_cached_steps.py"
PADDING = "tests/every_backend/test_padding_warning.py"
TRAPS = "tests/every_backend/test_traps.py"
LOADING = "tests/every_backend/test_loading.py"
AGREE = "tests/equivalence/test_backends_agree.py"
VERIFY = "tests/conversion/test_verify.py"
CONVERT = "tests/conversion/test_convert.py"
FAIRSEQ = "tests/conversion/test_fairseq.py"
REPORT = "tests/conversion/test_verify_command.py"
BATCHING = "tests/common/test_batching.py"
BATCHES = "tests/common/test_batches.py"
COLLATION = "tests/common/test_collation.py"
MASKING = "tests/common/test_masking.py"
PACKING = "tests/common/test_packing.py"
RECIPES = "tests/common/test_recipes.py"
PIPELINES = "tests/common/test_pipelines.py"
WINDOWS = "tests/common/test_answers_of_windows.py"
TASKS = "tests/common/test_pipeline_tasks.py"
TEXTS = "tests/common/test_text_commands.py"
TRAINING = "tests/every_backend/test_training.py"
LOSS_OPTIONS = "tests/common/test_loss_options.py"
OPTIONS = "tests/every_backend/test_training_options.py"
FAMILIES = "tests/every_backend/test_families.py"
KINDS = "tests/common/test_tokenizer_kinds.py"
RUN = "tests/common/test_training_run.py"
DEVICES = "tests/one_backend/test_devices_pt.py"
SPLIT = "tests/one_backend/test_devices_split.py"
DEVICE_NAMES = "tests/common/test_devices.py"
TRAINING_PT = "tests/one_backend/test_training_pt.py"
TRAINING_TF = "tests/one_backend/test_training_tf.py"
TRAINING_FLAX = "tests/one_backend/test_training_flax.py"

# file, the correct code, the mistake, the tests that run, and their selection
MUTANTS: list[tuple[str, str, str, str, str]] = [
    ("pt/layers.py", '"gelu": F.gelu,', '"gelu": lambda x: F.gelu(x, approximate="tanh"),', GOLDEN, "in_pt and float64"),
    ("pt/layers.py", "self.dense(hidden))))  # erf", "self.dense(hidden), approximate='tanh')))  # erf", GOLDEN, "in_pt and float64"),
    ("pt/layers.py", "(hidden, eps=config.layer_norm_eps)", "(hidden, eps=1e-12)", GOLDEN, "in_pt and float64"),
    ("pt/layers.py", "self.LayerNorm(self.dropout(self.dense(hidden)) + residual)", "self.LayerNorm(self.dropout(self.dense(hidden)))", GOLDEN, "in_pt and float64"),
    ("pt/layers.py", "+ past_tokens) * is_token + pad_token_id", "+ past_tokens) * is_token", TRAPS, "in_pt"),
    ("pt/layers.py", "is_token = (input_ids != pad_token_id).long()", "is_token = torch.ones_like(input_ids)", TRAPS, "in_pt"),
    ("pt/layers.py", "steps + past_tokens + config.pad_token_id + 1", "steps + past_tokens", TRAPS, "in_pt"),
    ("pt/layers.py", "(1 - mask) * (torch.finfo", "(0 - mask) * (torch.finfo", TRAPS, "in_pt"),
    ("pt/layers.py", "(1 - mask) * (torch.finfo", "-(1 - mask) * (torch.finfo", TRAPS, "in_pt"),
    ("pt/layers.py", "torch.finfo(like.dtype).min / 2", "-torch.inf", TRAPS, "in_pt"),
    ("pt/layers.py", " * has_key", "", AGREE, "in_tf and masked"),
    ("pt/layers.py", "causal = causal and mask.dim() == 2", "causal = causal", TRAPS, "in_pt"),
    ("pt/layers.py", "key_index <= key_index[keys", "key_index < key_index[keys", GOLDEN, "in_pt and float64"),
    ("pt/layers.py", "key.transpose(-1, -2) / math.sqrt(query.shape[-1])", "key.transpose(-1, -2)", GOLDEN, "in_pt and float64"),
    ("pt/layers.py", "weights = weights if head_mask is None else weights * head_mask", "pass", GOLDEN, "in_pt and float64"),
    ("pt/layers.py", "hidden = inputs_embeds + self.token_type_embeddings(token_type_ids)", "hidden = inputs_embeds", GOLDEN, "in_pt and float64"),
    ("pt/layers.py", "torch.tanh(self.dense(hidden[:, 0]))", "torch.tanh(self.dense(hidden[:, 1]))", GOLDEN, "in_pt and float64"),
    ("pt/layers.py", "torch.tanh(self.dense(hidden[:, 0]))", "self.dense(hidden[:, 0])", GOLDEN, "in_pt and float64"),
    ("pt/layers.py", "self.out_proj(self.dropout(torch.tanh(self.dense(first))))", "self.out_proj(self.dropout(self.dense(first)))", GOLDEN, "in_pt and float64"),
    ("pt/layers.py", "config.vocab_size, hidden, padding_idx=pad", "config.vocab_size, hidden", TRAPS, "in_pt"),
    ("pt/layers.py", "low < 0 or high >= limit", "high > limit", TRAPS, "in_pt"),
    ("pt/losses.py", "torch.cat((labels[:, 1:], torch.full_like(labels[:, :1], IGNORED)), dim=1)", "labels", TRAPS, "in_pt"),
    ("pt/losses.py", "labels.flatten(), IGNORED, count", "labels.flatten().clamp(0), IGNORED, count", TRAPS, "in_pt"),
    ("pt/losses.py", ".clamp(0, seq)", ".clamp(0, seq - 1)", TRAPS, "in_pt"),
    ("pt/losses.py", "(one(start_logits, start) + one(end_logits, end)) / 2", "one(start_logits, start) + one(end_logits, end)", TRAPS, "in_pt"),
    ("pt/cache.py", "attention_mask[:, : length(cache)].long().sum(dim=1, keepdim=True)", "length(cache)", CACHED, "in_pt and plain_one"),
    ("pt/cache.py", "torch.cat((past[0], key), dim=2), torch.cat((past[1], value), dim=2)", "torch.cat((key, past[0]), dim=2), torch.cat((value, past[1]), dim=2)", GOLDEN, "in_pt and cached"),
    ("pt/cache.py", "(input_ids != pad_token_id).sum(dim=1, keepdim=True)", "(input_ids == input_ids).sum(dim=1, keepdim=True)", CACHED, "in_pt and any_ids"),
    ("pt/cache.py", "None if cache.tokens is None else cache.tokens.index_select(0, rows)", "cache.tokens", CACHED, "in_pt and change_places"),
    ("pt/models.py", "caches.Cache(presents, past_tokens + new_tokens)", "caches.Cache(presents)", CACHED, "in_pt and any_ids"),
    ("pt/layers.py", "        if not config.has_distances:\n            check_range", "        if True:\n            check_range", SETTINGS, "in_pt and rel"),
    ("pt/layers.py", "/ math.sqrt(query.shape[-1])\n            bias", "\n            bias", SETTINGS, "in_pt and rel"),
    ("pt/layers.py", "if config.is_decoder else input_ids[:, ::", "if True else input_ids[:, ::", PADDING, "in_pt"),
    ("pt/models.py", "input_ids is not None and cache is None:", "input_ids is not None:", PADDING, "in_pt"),
    ("common/config.py", "config.label2id = contradiction", "pass", SETTINGS, "in_pt and disagree"),
    ("pt/models.py", "self.qa_outputs(outputs.last_hidden_state).unbind(dim=-1)", "self.qa_outputs(outputs.last_hidden_state).flip(-1).unbind(dim=-1)", GOLDEN, "in_pt and float64"),
    ("pt/models.py", "if self.or_config(return_dict, \"use_return_dict\"):\n            return output", "if True:\n            return output", TRAPS, "in_pt"),
    ("pt/weights.py", "state[f\"{prefix}bias\"] = state[f\"{prefix}decoder.bias\"] = bias", "state[f\"{prefix}decoder.bias\"] = bias * 0", "tests/one_backend/test_pytorch.py", "state_dict"),
    ("pt/pretrained.py", "lm_head.decoder.weight = self.get_input_embeddings().weight", "pass", LOADING, "in_pt"),
    ("common/checkpoint/checkpoint.py", "lambda: load().T", "lambda: load()", GOLDEN, "in_pt and format"),
    ("common/storage/names.py", "not _is_plain_name(shard)", "False", LOADING, "in_pt and broken"),
    ("common/checkpoint/checkpoint.py", "for n in missing if not _may_be_new(n, has_prefix)]", "for n in missing if False]", LOADING, "in_pt and broken"),
    ("common/checkpoint/older_names.py", '"gamma": "weight", "beta": "bias"', '"gamma": "bias", "beta": "weight"', LOADING, "in_pt and spelling"),
    ("common/formats/safetensors_file.py", "if end != size:", "if False:", LOADING, "in_pt and broken"),
    ("common/parameters.py", 'yield from _norm("lm_head.layer_norm", hidden)', 'yield from _norm("lm_head.LayerNorm", hidden)', GOLDEN, "in_pt and float64"),
    ("tf/layers.py", 'return 0.5 * x * (1 + tf.math.erf(x / math.sqrt(2)))', 'return _gelu_tanh(x)', AGREE, "in_tf and test_every_activation"),
    ("common/formats/tf_h5.py", '"norm": "gamma"', '"norm": "beta"', LOADING, "in_tf and new_models"),
    ("flax/layers.py", "return nn.gelu(x, approximate=False)", "return nn.gelu(x, approximate=True)", AGREE, "in_flax and test_every_activation"),
    ("common/formats/flax_msgpack.py", '{"embedding": "weight", "kernel": "weight", "scale": "weight"}', '{"embedding": "weight", "kernel": "bias", "scale": "weight"}', LOADING, "in_flax and new_models"),
    ("conversion/verify/judgement.py", "MARGIN = 32", "MARGIN = 1e15", VERIFY, "wrong_tensor"),
    ("conversion/verify/judgement.py", "MARGIN = 32", "MARGIN = 0.01", VERIFY, "gradients_of_every"),
    ("conversion/verify/inputs.py", "ids != pad", "ids != -1", VERIFY, "padded"),
    ("conversion/verify/judgement.py", "absolute <= bound)", "not absolute > bound)", VERIFY, "finite"),
    ("conversion/verify/judgement.py", "for row in table if", "for row in reversed(table) if", VERIFY, "wrong_tensor"),
    ("conversion/verify/judgement.py", "name != suspect]", "name == suspect]", VERIFY, "one_framework and Keras"),
    ("conversion/verify/runners.py", "result[0] if isinstance(result, tuple) else result", "_arguments[0]", VERIFY, "feed_forward_block and in_pt"),
    ("conversion/verify/runners.py", "layer.attention(hidden, bias,", "layer.attention(hidden, None,", VERIFY, "cross"),
    ("conversion/verify/runners.py", "array.T if turned else array", "array", VERIFY, "gradients_alone"),
    ("conversion/verify/opening.py", "max(STEPS[name]", "min(STEPS[name]", VERIFY, "narrower"),
    ("conversion/verify/report.py", "value if math.isfinite(value) else None", "value", REPORT, "null"),
    ("conversion/sapiens.py", '"<mask>" if residue in "*X"', '"<unk>" if residue in "*X"', "tests/conversion/test_demo.py", "reference"),
    ('conversion/fairseq/names.py', 'FUSED = ("q_proj", "k_proj", "v_proj")', 'FUSED = ("k_proj", "q_proj", "v_proj")', FAIRSEQ, 'spelling'),
    ('conversion/fairseq/names.py', '("sentence_encoder.layers.{}.fc1", "roberta.encoder.layer.{}.intermediate.dense")', '("sentence_encoder.layers.{}.fc3", "roberta.encoder.layer.{}.intermediate.dense")', FAIRSEQ, 'spelling'),
    ('conversion/model.py', 'EPSILON = 1e-5', 'EPSILON = 1e-12', FAIRSEQ, 'spelling or (trained_model_computes and in_pt)'),
    ('conversion/fairseq/reader.py', '    if decoder is not None and not older_names.same(words, decoder):', '    if False:', FAIRSEQ, 'untied'),
    ('conversion/keras_hub/writer.py', 'contiguous(load().T if is_turned else load()).reshape', 'contiguous(load()).reshape', CONVERT, 'every_other and ForMaskedLM-float32'),
    ('conversion/keras_hub/reader.py', 'zeros if first is None else first.load(), values', 'zeros, values', CONVERT, 'every_other and ForMaskedLM-float32'),
    ('conversion/convert.py', '    if not np.isfinite(result).all() and np.isfinite(array).all():', '    if False:', CONVERT, 'cannot_be'),
    ('conversion/convert.py', 'def _is_stale(name: str) -> bool:\n', 'def _is_stale(name: str) -> bool:\n    return False\n', CONVERT, 'old_weights_go'),
    ('common/formats/torch_zip.py', '            values[offset:], shape', '            values, shape', FAIRSEQ, 'views'),
    ('common/formats/torch_writer.py', 'strides = tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))', 'strides = tuple(prod(shape[:axis]) for axis in range(len(shape)))', CONVERT, 'torch_loads and float32'),
    ('common/formats/pickle_machine.py', '        if text not in self.builders and not (', '        if False and not (', FAIRSEQ, 'no_pickle'),
    ('common/formats/flax_msgpack.py', 'array = contiguous(load().T if is_turned else load())', 'array = contiguous(load())', CONVERT, 'flax_restores'),
    ('common/formats/tf_h5.py', 'lambda: load().T)', 'lambda: load().reshape(shape[::-1]))', CONVERT, 'h5py'),
    ('conversion/fairseq/dictionary.py', '    if MASK not in listed and len(names) + 1 == rows:', '    if False:', FAIRSEQ, 'dictionary'),
    ('conversion/formats.py', '    if len(found) == 1:\n        return found[0]', '    if found:\n        return found[0]', CONVERT, 'never_guessed'),
    ('conversion/model.py', '    if head is None and found.report.unexpected:', '    if False:', CONVERT, 'never_dropped'),
    ("common/inference/batching.py", "order = np.argsort(-costs, kind=\"stable\")", "order = np.argsort(costs, kind=\"stable\")", BATCHING, "longest"),
    ("common/inference/batching.py", 'side="right"', 'side="left"', BATCHING, "room"),
    ("common/inference/batching.py", "if window and total + cost(item) > budget:", "if False:", BATCHING, "bounded"),
    ("common/inference/batching.py", "            failure = error\n", "            pass\n", BATCHING, "failed"),
    ("common/training/data/masking.py", "* count + generator.random()", "* count + 0.5", MASKING, "rounds_up"),
    ("common/training/data/masking.py", "if exact else every", "if not exact else every", MASKING, "uniform"),
    ("common/training/data/masking.py", "fate[unit[places]]", "fate[places % len(fate)]", MASKING, "whole_words"),
    ("common/training/data/batches.py", "labels = labels[:, 1:]", "pass", COLLATION, "clm"),
    ("common/training/data/collation.py", "np.concatenate([number * seq + places", "np.concatenate([places", COLLATION, "mlm"),
    ("common/training/data/packing.py", "len(row) + len(between) + len(line)", "len(row) + len(line)", PACKING, "too_long"),
    ("common/training/data/packing.py", "                row, between = [], []", "                row = []", PACKING, "every_token"),
    ("common/training/data/packing.py", "-min(largest, wanted // 2)", "-1", PACKING, "two_documents"),
    ("common/training/data/packing.py", " - len(last) // 2\n", "\n", PACKING, "among_the_half"),
    ("common/training/recipes.py", "(updates - warmup), recipe.power", "updates, recipe.power", RECIPES, "formula"),
    ("common/training/recipes.py", " or recipe.power == 0", "", RECIPES, "last_update"),
    ("common/training/data/batches.py", "part.count / total", "1 / len(parts)", BATCHES, "weights"),
    ("common/training/data/batches.py", "range(start + 1, stop + 1)", "range(start, stop)", BATCHES, "once_an_epoch"),
    ("common/training/data/batches.py", "return own, count / whole", "return own, 1 / world", TRAINING_PT, "rows_of_all"),
    ("common/training/data/batches.py", "row[kept] // world * inputs", "row[kept] * inputs", TRAINING_PT, "places"),
    ("common/training/run.py", "sign * value > sign * self.best[1]", "sign * value < sign * self.best[1]", RUN, "newest"),
    ("common/training/run.py", "self.start = 0 if saved is None else saved.position.update", "self.start = 0", RUN, "killed"),
    ("common/training/run.py", "            self._save(before, trainer, removes_old=False)", "            pass", RUN, "finite"),
    ("common/training/run.py", "            signal.signal(number, handler)", "            pass", RUN, "callers"),
    ("common/training/journal.py", "self._file.truncate(size)", "pass", RUN, "killed"),
    ("common/training/checkpoints.py", "if best is None or update != best[0]:", "if True:", RUN, "newest"),
    ("common/training/checkpoints.py", "if path.name not in apart]", "]", RUN, "only_a_training"),
    ("pt/training.py", "(self.settings.seed, number, index, self.rank)", "(self.settings.seed, 1, index, self.rank)", TRAINING, "in_pt and dropout_follows"),
    ("pt/training.py", "gradient.mul_(limit / size)", "gradient.mul_(limit)", TRAINING, "in_pt and clipped"),
    ("pt/training.py", "if math.isfinite(loss) and math.isfinite(size):", "if math.isfinite(loss):", TRAINING_PT, "gradients_that_are"),
    ("pt/training.py", "scale = weight * self.world * self._scale.value", "scale = float(self.world)", TRAINING, "in_pt and add_up and tokens"),
    ("common/training/parameter_groups.py", 'kind_of(name) in ("embedding", "dense")', 'kind_of(name) != "bias"', TRAINING, "in_pt and undecayed"),
    ("common/training/parameter_groups.py", "steps = 0 if layer is None else layers - layer", "steps = 0", OPTIONS, "in_pt and everything"),
    ("common/training/data/batches.py", "    if class_weights is not None:\n", "    if False:\n", LOSS_OPTIONS, "weights_of_classes"),
    ("pt/training.py", "number = self.start + 1 + index", "number = 1 + index", TRAINING_PT, "goes_on"),
    ("pt/training.py", "enabled=self.low is not None", "enabled=False", TRAINING_PT, "bfloat16"),
    ("pt/training.py", "with forked_generators(device):", "if True:", TRAINING_PT, "caller"),
    ("pt/training.py", "check_model_class(model, settings.task)", "pass", TRAINING, "in_pt and another_task"),
    ("pt/sharding.py", "        loss.compile()", "        pass", TRAINING_PT, "compiled_code"),
    ("tf/adamw.py", "epsilon=tf.cast(self.epsilon * root, dtype)", "epsilon=tf.cast(self.epsilon, dtype)", TRAINING_TF, "adamw_is"),
    ("flax/training.py", "jax.jit(apply, donate_argnums=0,", "jax.jit(apply,", TRAINING_FLAX, "memory"),
    ("flax/training.py", "jax.random.fold_in(jax.random.fold_in(key, draw[0]), draw[1])", "jax.random.fold_in(key, draw[1])", TRAINING, "in_flax and dropout_follows"),
    ("common/pipelines/base.py", "values[index] = value", "values[len(flat) - 1 - index] = value", PIPELINES, "alone"),
    ("common/pipelines/base.py", "yield from self.window(items[: error.number - items[0].number], options)", "pass", PIPELINES, "come_first"),
    ("common/pipelines/base.py", "return Item(self.checked(Item(value, number)), number)", "return Item(value, number)", PIPELINES, "named_before"),
    ("common/pipelines/base.py", "max(RESULT_BYTES // bytes_each, 1)", "10**9", PIPELINES, "like_length"),
    ("common/pipelines/base.py", "first=FIRST_WINDOW", "first=WINDOW_TEXTS", PIPELINES, "without_end"),
    ("common/pipelines/arrays.py", "places >= longest - sizes[:, None] if left", "places < sizes[:, None] if left", PIPELINES, "alone and generation"),
    ("common/pipelines/arrays.py", "sorted(config.id2label) != list(range(outputs))", "len(config.id2label) < outputs", PIPELINES, "label_set"),
    ("common/pipelines/inputs.py", "if not value.isascii():", "if False:", PIPELINES, "half"),
    ("common/pipelines/answer.py", "is_span = first + more < len(scores)", "is_span = first >= 0", TASKS, "by_the_probability"),
    ("common/pipelines/answer.py", 'known["score"] = min(known["score"] + score, 1.0)', 'known["score"] = score', WINDOWS, "two_places"),
    ("common/pipelines/tag.py", "if offsets[at - 1][0] < offsets[at - 1][1] <= offsets[at][0]:", "if True:", TASKS, "bytes_of"),
    ("common/pipelines/entities.py", "_weight(entity) > _weight(kept[-1])", "_weight(entity) < _weight(kept[-1])", TASKS, "longer_one"),
    ("common/pipelines/windows.py", "range(0, max(tokens - stride, 1), room - stride)", "range(0, max(tokens, 1), room - stride)", TASKS, "reach"),
    ("common/pipelines/sentence_recipe.py", "shares = kept / kept.sum(axis=1, keepdims=True)", "shares = kept / kept.shape[1]", TASKS, "vector and mean"),
    ("common/pipelines/sentence_recipe.py", "np.arange(1, kept.shape[1] + 1", "np.arange(kept.shape[1]", "tests/every_backend/test_sentence_folders.py", "in_pt and weightedmean"),
    ("common/checkpoint/wrappers.py", "    if clash:", "    if False:", "tests/every_backend/test_odd_files.py", "in_pt and may_be_another"),
    ("common/checkpoint/wrappers.py", "    if bare is not None and not lacking:", "    if bare is not None:", "tests/every_backend/test_odd_files.py", "in_pt and may_be_another"),
    ("common/pipelines/embed.py", "where[:, 0] = True", "where[:, 1] = True", TASKS, "vector and cls"),
    ("common/pipelines/choose.py", "kind=\"stable\")[: options.top_k]", "kind=\"stable\")[::-1][: options.top_k]", TASKS, "own_forward"),
    ("common/pipelines/generate.py", "min(new, room)", "new", TASKS, "as_far"),
    ("common/pipelines/generate.py", "settings = {**_USUAL, **own}", "settings = {**own, **_USUAL}", TASKS, "own_settings"),
    ("common/pipelines/generate.py", "settings[\"max_length\"] - len(ids)", "settings[\"max_length\"]", TASKS, "max_length_counts"),
    ("common/pipelines/generate.py", "len(row.ids) if \"min_length\" in settings else 0", "0", TASKS, "min_length_counts"),
    ("common/pipelines/model_loading.py", "if report[\"missing_keys\"]:", "if False:", TASKS, "something_else"),
    ("common/commands/input_files.py", "is_header = said.header if columns is None else columns.is_header", "is_header = False", TEXTS, "columns"),
    ("common/training/data/records.py", 'text.removeprefix("\\ufeff") if number == 1 else text', "text", TEXTS, "every_line"),
    ("common/commands/text_commands.py", "self.file.seek(0)", "pass", TEXTS, "vectors"),
    ("common/commands/text_commands.py", "return _INTERRUPTED", "return 0", TEXTS, "interrupted"),
    ("common/family_classes.py", 'body["encoder_class"] = family["Model"]', "pass", FAMILIES, "encoder_inside and pt"),
    ("common/family_classes.py", "return kind if is_changed else", "return", FAMILIES, "fast_way and in_pt"),
    ("common/config_protocol.py", "config_class = config_class_of(", "config_class, _ = RobertaConfig, (", FAMILIES, "conversion_keeps and safetensors"),
    ("common/training/session.py", "self.head, data.config.model_type)", 'self.head, "roberta")', FAMILIES, "a_training"),
    ("common/pipelines/model_loading.py", "class_of(name, head, model_type)", 'class_of(name, head, "roberta")', FAMILIES, "a_pipeline and in_pt"),
    ("conversion/model.py", "config.architectures = [name]", 'config.architectures = [f"Roberta{chosen}"]', FAMILIES, "conversion_keeps and safetensors"),
    ("common/vocabulary/builders.py", "for text, score, _ in model.pieces[3:])", "for text, score, _ in model.pieces[2:])", KINDS, "xlm_roberta_has"),
    ("common/vocabulary/builders.py", "for text, score, _ in model.pieces[1:])", "for text, score, _ in model.pieces)", KINDS, "camembert_has"),
    ("common/vocabulary/builders.py", "range(extra_ids - 1, -1, -1)", "range(extra_ids)", KINDS, "t5"),
    ("common/vocabulary/builders.py", "$B:1 {sep_token}:1", "$B:0 {sep_token}:0", KINDS, "wordpiece"),
    ("common/tokenizer/library.py", "return not token.startswith(continues), False", "return token.startswith(continues), False", KINDS, "masking"),
    ("common/tokenizer/library.py", "not in listed}, **vocabulary.added}", "not in listed}, **vocabulary.added, **added}", "tests/common/test_tokenizer_family.py", "auto_tokenizer_finds"),
    ("common/tokenizer/auto.py", "if cls is not None and cls.is_readable(folder):", "if cls is not None:", KINDS, "contradict"),
    ("common/pipelines/tag.py", "tokens[said] == WORD_START or", "", "tests/every_backend/test_family_pipelines.py", "in_pt and tc-xlmr"),
    ("pt/devices.py", "    return tensor.to(device)", "    return tensor", DEVICES, "dropout"),
    ("pt/devices.py", "int(os.environ.get(\"LOCAL_WORLD_SIZE\", \"1\")) > 1", "False", DEVICES, "torchrun"),
    ("pt/layers.py", "torch.zeros((batch, seq), dtype=torch.long, device=inputs_embeds.device)", "torch.zeros((batch, seq), dtype=torch.long)", DEVICES, "embeddings"),
    ("pt/layers.py", "steps = torch.arange(seq, device=inputs_embeds.device)", "steps = torch.arange(seq)", DEVICES, "embeddings"),
    ("pt/layers.py", "index = torch.arange(key.shape[2], device=key.device)", "index = torch.arange(key.shape[2])", DEVICES, "embeddings"),
    ("pt/pretrained.py", "        if place.type != \"cpu\":\n            self.to(place)", "        pass", DEVICES, "loaded_where"),
    ("pt/pretrained.py", "dtype=dtype, device=\"cpu\")", "dtype=dtype)", DEVICES, "loaded_where"),
    ("pt/pretrained.py", "            setattr(owner, leaf, getattr(other, other_leaf))", "            pass", DEVICES, "every_head"),
    ("pt/training.py", "return loss.detach().cpu().double() * weight", "return loss.detach() * weight", DEVICES, "bfloat16 or dropout"),
    ("tf/pretrained.py", "with no_initialisation(), tf.device(place):", "with no_initialisation():", SPLIT, "in_tf and not length"),
    ("tf/pretrained.py", "        with on_device_of(self):\n            if not self._takes_names", "        with tf.device(None):\n            if not self._takes_names", SPLIT, "in_tf and not length"),
    ("flax/weights.py", "leaf if device is None else jax.device_put(leaf, device)", "leaf", SPLIT, "in_flax and not length"),
    ("common/devices.py", "asked.number < there[kinds[0]]", "asked.number <= there[kinds[0]]", DEVICE_NAMES, "lists"),
    ("common/devices.py", "@functools.cache\ndef say_taken", "def say_taken", DEVICE_NAMES, "said"),
]  # fmt: skip


def make_copy(folder: str) -> Path:
    """A copy of the code and its tests, in which one mistake at a time is made."""
    copy = Path(folder) / "project"
    copy.mkdir()
    shutil.copy(ROOT / "pyproject.toml", copy)
    for part in ("roberta", "tests"):
        shutil.copytree(ROOT / part, copy / part)
    return copy


def survives(copy: Path, mutant: tuple[str, str, str, str, str]) -> bool:
    """Whether the tests pass although the mistake is in the code."""
    name, old, new, tests, selection = mutant
    file = copy / "roberta" / name
    text = file.read_text()
    if old not in text:
        raise SystemExit(f"{name} has no {old!r}: the list of mistakes is out of date")
    file.write_text(text.replace(old, new))
    shutil.rmtree(file.parent / "__pycache__", ignore_errors=True)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", tests, "-k", selection]
    environment = {
        **os.environ,
        "ROBERTA_SHARED": os.environ.get("ROBERTA_SHARED", str(ROOT.parent / "shared")),
        "PYTHONPATH": str(copy),  # an editable install leads to the original
    }
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    file.write_text(text)
    if done.returncode not in (0, 1):
        raise SystemExit(f"the tests of {name} could not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def main() -> int:
    """Run every mistake, or those whose file name holds an argument; two at a time."""
    chosen = [m for m in MUTANTS if not sys.argv[1:] or any(word in m[0] for word in sys.argv[1:])]
    waiting = iter(chosen)
    turn = threading.Lock()
    seen: list[bool] = []

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            copy = make_copy(folder)
            while True:
                with turn:
                    mutant = next(waiting, None)
                if mutant is None:
                    return
                alive = survives(copy, mutant)
                seen.append(not alive)
                print(f"{'UNSEEN' if alive else 'caught'}  {mutant[0]}: {mutant[2][:90]!r}", flush=True)

    with ThreadPoolExecutor() as pool:
        for worker in [pool.submit(work) for _ in range(JOBS)]:
            worker.result()
    print(f"{sum(seen)} of {len(chosen)} caught")
    return int(sum(seen) < len(chosen))


if __name__ == "__main__":
    sys.exit(main())
