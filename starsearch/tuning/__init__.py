"""Recipe searches: the best training recipe of one network, by Ray Tune.

space      which fields of a recipe are searched, and the recipe file that a search leaves
trainable  one recipe's training, an epoch a step
strategy   what proposes recipes and what stops them: OptunaSearch, ASHA, Population Based Training
search     `tune_recipes`: Ray Tune's run, written into a study
"""
