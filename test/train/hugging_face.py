"""Random small Llama checkpoints by transformers, and what transformers makes of ours.

make CASES.json     [{folder, seed, config, dtype, shard}] -> writes the folders; {folder: logits of the tokens}
read CASES.json     [folder]                               -> {folder: {logits, ids of the text, text of the ids}}
"""
import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

TOKENS = [[1, 7, 30, 2, 9, 200, 13, 13, 250, 0, 99, 5]]
TEXT = "Grüße, 世界!\n\tfor (let i = 0; i < 10; i++) {}\n"


def logits(model):
    with torch.no_grad():
        return model.float().eval()(torch.tensor(TOKENS)).logits[0].tolist()


def make(cases):
    out = {}
    for case in cases:
        torch.manual_seed(case["seed"])
        model = LlamaForCausalLM(LlamaConfig(**case["config"]))
        # Larger than initial weights, norms away from 1: otherwise all logits are nearly equal.
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight) * 0.08)
        model = model.to(getattr(torch, case["dtype"]))
        model.save_pretrained(case["folder"], max_shard_size=case["shard"])
        out[case["folder"]] = logits(model)
    return out


def read(folders):
    out = {}
    for folder in folders:
        model = AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = tokenizer(TEXT)["input_ids"]
        out[folder] = {"logits": logits(model), "ids": ids, "text": tokenizer.decode(ids)}
    return out


with open(sys.argv[2]) as file:
    print(json.dumps({"make": make, "read": read}[sys.argv[1]](json.load(file))))
