"""The package that train.py and predict.py use. CONTRIBUTING.md shows its layers, called floors."""
