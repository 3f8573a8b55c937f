/*
 * What of DPDK bindgen cannot bind: static-inline functions, macros over thread-local storage, and field positions.
 *
 * Functions here work on bursts, never on single packets: a call from Rust costs about 1.2 ns, which a burst of 32 hides.
 */
#ifndef SLUICE_SHIM_H
#define SLUICE_SHIM_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <rte_config.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>

/*
 * Byte offsets of the mbuf fields that packet code reads and writes. They are taken from the headers that the
 * library was built with, so they hold for any release, while the path to a field through DPDK's nested anonymous
 * unions does not (24.11 moved several).
 */
enum sluice_mbuf_layout {
	SLUICE_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	SLUICE_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	SLUICE_MBUF_REFCNT = offsetof(struct rte_mbuf, refcnt),
	SLUICE_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	SLUICE_MBUF_PORT = offsetof(struct rte_mbuf, port),
	SLUICE_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	SLUICE_MBUF_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci),
	SLUICE_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	SLUICE_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	SLUICE_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
};

/* rte_eth_rx_burst(): at most `count` packets into `packets`; returns how many. */
uint16_t sluice_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count);

/* rte_eth_tx_burst(): returns how many of the first packets the driver took; the rest stay the caller's. */
uint16_t sluice_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count);

/* rte_pktmbuf_alloc_bulk(): all (0) or none (negative errno). */
int sluice_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **packets, unsigned int count);

/* rte_pktmbuf_free(): one packet with all its segments. */
void sluice_mbuf_free(struct rte_mbuf *packet);

/* rte_eth_rx_queue_count(): used descriptors, or negative errno where the driver cannot tell. */
int sluice_rx_queue_count(uint16_t port, uint16_t queue);

/* rte_errno of the calling thread. */
int sluice_errno(void);

/* rte_lcore_id() of the calling thread; UINT32_MAX if it is not registered. */
unsigned int sluice_lcore_id(void);

/* The link of a port, now, without waiting. */
struct sluice_link {
	uint32_t speed_mbps;
	uint8_t up;
	uint8_t full_duplex;
	uint8_t autoneg;
};

/* rte_eth_link_get_nowait(): 0 or negative errno. */
int sluice_link_get(uint16_t port, struct sluice_link *link);

/* Receives one message of DPDK's log, not terminated, with its level (RTE_LOG_ERR, ...); called on any thread. */
typedef void (*sluice_log_fn)(uint32_t level, const char *text, size_t length);

/* Sends DPDK's log to `sink` from now on, also during rte_eal_init(). 0, or -1 if there is no memory. */
int sluice_log_to(sluice_log_fn sink);

/* Receive and transmit on one queue `rounds` times, in C: what the Rust wrapper is measured against. */
uint64_t sluice_reference_loop(uint16_t port, uint16_t queue, uint64_t rounds);

#endif
