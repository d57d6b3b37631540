"""What a network costs: counted, predicted for a phone, measured on this machine; the star beside the sum.

python examples/latency.py [NETWORK]
"""

import sys
from dataclasses import replace

import starsearch

network = starsearch.parse_architecture(sys.argv[1] if len(sys.argv) > 1 else "starnet_s050")
twin = replace(network, ops=("sum",) * network.num_stages)
for name, one in (("as it is", network), ("all sums", twin)):
    macs, params = starsearch.count_macs(one) / 1e6, starsearch.count_params(one) / 1e6
    phone = starsearch.predict_latency("iphone", one).iloc[0]
    here = starsearch.measure_latency(one)
    print(
        f"{name}: {macs:.0f} MMACs, {params:.2f} M parameters, {here['latency_ms']:.2f} ± "
        f"{here['latency_ms_spread']:.2f} ms here, ≈ {phone['predicted_ms']:.2f} ms on {phone['device']}"
    )
