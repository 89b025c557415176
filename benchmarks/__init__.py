"""Benchmarks: the operations against the reference and against what the machine can do, and the whole job against the clock.

    machine      what the processor and its memory reach
    operations   every operation of kernels/, per implementation
    training     PSNR against seconds of training, frames per second of the result
    rate_distortion  quality against parameters and bytes: `fieldmorph reproduce rate-distortion`
    results      files of results, and two of them compared

Timings of implementations that are compared are interleaved, and medians are reported.
"""
