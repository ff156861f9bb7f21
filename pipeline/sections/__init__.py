"""The sections of a config, one module each, so that a stage's code digest covers only those that it reads."""
