"""The sections of a config, one module each, so that the code digest of a stage covers only the sections it reads."""
