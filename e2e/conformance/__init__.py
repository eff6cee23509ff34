"""Every operation of the service model over the wire, with requests made from the model itself.

`model` reads botocore's description of ECS and lays `models/overlay` over it; `cases` makes of each
operation what a client could get wrong, and what it may leave out or put in. `values` are those
that mean something, `samples` puts them into requests, `world` has the things that they name.
`expected` says what ECS answers, `answers` what that has to look like, `runner` judges; `sweep`
looks at all that was left behind. `baseline` holds what passed so far, which may only rise.
`python -m conformance --help`, in `e2e/`, runs it by hand.
"""
