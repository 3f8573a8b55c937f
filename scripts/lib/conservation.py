"""Checks both conservation equations in the output of `sluicectl -o json stats` (standard input).

Prints the figures in one line; exit status 1 when either equation does not hold.
"""

import json
import sys

stats = json.load(sys.stdin)
drops = stats["drops"]

received = stats["rx_packets"]
parts = {k: stats[k + "_packets"] for k in ("forwarded", "consumed", "punted", "held")}
parts["dropped"] = sum(drops.values())
sent = stats["tx_packets"]
made = {k: stats[k + "_packets"] for k in ("forwarded", "generated")}

ok_rx = received == sum(parts.values())
ok_tx = sent == sum(made.values())


def equation(name, total, terms, holds):
    right = " + ".join(f"{n} {k}" for k, n in terms.items())
    return f"{name} {total} {'=' if holds else '!='} {right}"


print(equation("rx", received, parts, ok_rx) + "; " + equation("tx", sent, made, ok_tx))
counted = {k: n for k, n in sorted(drops.items()) if n}
if counted:
    print("drops: " + ", ".join(f"{k} {n}" for k, n in counted.items()))
sys.exit(0 if ok_rx and ok_tx else 1)
