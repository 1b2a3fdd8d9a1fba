#!/usr/bin/env bash
# tools/bigcodebench.sh FOLDER [PYTHON]: a virtual environment with the libraries that BigCodeBench's problems import (2.4 GB, six minutes), for
# `evaluate: {sandbox: {environment: FOLDER}}`. PYTHON: a Python 3.11 (default python3.11); it need not be the one that runs snow.
set -euo pipefail
folder=${1:?usage: tools/bigcodebench.sh FOLDER [PYTHON]}
python=${2:-python3.11}
root=$(cd "$(dirname "$0")/.." && pwd)
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "tools/bigcodebench.txt is for Python 3.11, $python is another; name one" >&2; exit 2; }
"$python" -m venv "$folder"
# Four pure Python packages are published as sources only.
"$folder/bin/pip" install --quiet --no-deps --only-binary :all: --no-binary wikipedia,wordninja,flask-mail,rsa -r "$root/tools/bigcodebench.txt"
"$folder/bin/pip" check || true # tensorflow-cpu's markers; what does not import is told by `snow evaluate`
data=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nltk_data
"$folder/bin/python" -m nltk.downloader -q -d "$data" stopwords punkt words vader_lexicon wordnet averaged_perceptron_tagger brown &&
    [ -d "$data" ] || echo "nltk's data could not be fetched: 17 problems will fail that read it (docs/bigcodebench.md); put it into $data" >&2
