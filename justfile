# The commands of CONTRIBUTING.md by name. `pip install rust-just` brings `just` where the system has none.

bin := ".venv/bin"

_list:
    @{{just_executable()}} --list --unsorted

# make the virtual environment that all else runs in
setup:
    python3 -m venv .venv && {{bin}}/pip install -e '.[test,bench]'

# start the gateway
run *flags:
    {{bin}}/gateway --log-level debug {{flags}}

# the tests that start no process, in less than 20 seconds: on every save
fast:
    {{bin}}/pytest -m fast

# all tests, as CI does; or those that are named
test *arguments:
    {{bin}}/pytest {{arguments}}

# what follows from gateway/protocol/: tables of docs/protocol.md, types of the page
generate:
    {{bin}}/python -m tools.generate

# style and types
check:
    {{bin}}/ruff check . && {{bin}}/ruff format --check . && {{bin}}/mypy

# which lines no test reaches, module by module
coverage *arguments:
    {{bin}}/pytest --cov {{arguments}}

# the lowest dependencies and other Pythons
lanes *names:
    python3 .ci/lanes.py {{names}}

# everything that CI does
ci:
    bash .ci/run

# play the store against its model for ten minutes
model:
    MODEL=full {{bin}}/pytest -n0 tests/model

# attack the gateway, in full size
hostile:
    HOSTILE=full {{bin}}/pytest -n0 tests/hostile

# kill the gateway, or three nodes and their Valkey server, and lose connections, for ten minutes and more
soak:
    SOAK=full {{bin}}/pytest -n0 tests/soak

# measure every operation on a store of 1 GB
large:
    LARGE=full {{bin}}/pytest -n0 tests/engines/test_pieces.py

# measure the gateway beside its peers
bench *arguments:
    {{bin}}/python -m benchmarks {{arguments}}
