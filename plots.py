def run_pictures(folder, train):
    return []
