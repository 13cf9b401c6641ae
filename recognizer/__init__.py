"""What train.py and predict.py stand on. CONTRIBUTING.md draws its floors."""
