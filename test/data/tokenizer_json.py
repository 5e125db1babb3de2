"""Tokenizers as the tokenizers library makes and runs them.

make FILE TEXT.json      a BPE with metaspaces and byte fallback, as Llama 2 has it, trained on the texts
encode INPUT.json        {file, text} -> {ids, text: what they decode to}
"""
import json
import sys

from tokenizers import Tokenizer, decoders, models, normalizers, trainers


def make(path, texts):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=600, special_tokens=special[:3], show_progress=False))
    whole = json.loads(tokenizer.to_str())
    vocabulary = whole["model"]["vocab"]
    for token in special[3:]:
        vocabulary.setdefault(token, len(vocabulary))
    with open(path, "w") as file:
        json.dump(whole, file)
    return {}


def encode(given):
    tokenizer = Tokenizer.from_file(given["file"])
    ids = tokenizer.encode(given["text"], add_special_tokens=False).ids
    return {"ids": ids, "text": tokenizer.decode(ids)}


arguments = [json.load(open(one)) if one.endswith(".input.json") else one for one in sys.argv[2:]]
print(json.dumps({"make": make, "encode": encode}[sys.argv[1]](*arguments)))
