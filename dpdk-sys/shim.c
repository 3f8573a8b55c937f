#define _GNU_SOURCE
#include "shim.h"

/* The Rust side reads these fields with these widths. */
_Static_assert(sizeof(((struct rte_mbuf *)0)->buf_addr) == sizeof(void *), "buf_addr is a pointer");
_Static_assert(sizeof(((struct rte_mbuf *)0)->data_off) == 2, "data_off is 16 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->refcnt) == 2, "refcnt is 16 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->nb_segs) == 2, "nb_segs is 16 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->port) == 2, "port is 16 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->ol_flags) == 8, "ol_flags is 64 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->vlan_tci) == 2, "vlan_tci is 16 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->pkt_len) == 4, "pkt_len is 32 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->data_len) == 2, "data_len is 16 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->buf_len) == 2, "buf_len is 16 bits");

uint16_t sluice_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, packets, count);
}

uint16_t sluice_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, packets, count);
}

int sluice_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **packets, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, packets, count);
}

void sluice_mbuf_free(struct rte_mbuf *packet)
{
	rte_pktmbuf_free(packet);
}

int sluice_rx_queue_count(uint16_t port, uint16_t queue)
{
	return rte_eth_rx_queue_count(port, queue);
}

int sluice_errno(void)
{
	return rte_errno;
}

unsigned int sluice_lcore_id(void)
{
	return rte_lcore_id();
}

int sluice_link_get(uint16_t port, struct sluice_link *link)
{
	struct rte_eth_link now = {0};
	int status = rte_eth_link_get_nowait(port, &now);

	if (status != 0)
		return status;
	link->speed_mbps = now.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : now.link_speed;
	link->up = now.link_status;
	link->full_duplex = now.link_duplex;
	link->autoneg = now.link_autoneg;
	return 0;
}

static sluice_log_fn log_sink;

/* rte_log() flushes after every message, so a write is one message on the thread that logged it. */
static ssize_t log_write(void *cookie, const char *text, size_t length)
{
	int level = rte_log_cur_msg_loglevel();

	(void)cookie;
	log_sink(level < 0 ? RTE_LOG_INFO : (uint32_t)level, text, length);
	return (ssize_t)length;
}

int sluice_log_to(sluice_log_fn sink)
{
	cookie_io_functions_t functions = {.write = log_write};
	FILE *stream;

	log_sink = sink;
	stream = fopencookie(NULL, "w", functions);
	if (stream == NULL)
		return -1;
	/* Never closed: DPDK's threads may log until the process ends. */
	return rte_openlog_stream(stream);
}

uint64_t sluice_reference_loop(uint16_t port, uint16_t queue, uint64_t rounds)
{
	struct rte_mbuf *packets[32];
	uint64_t received = 0;

	for (uint64_t round = 0; round < rounds; round++) {
		uint16_t count = rte_eth_rx_burst(port, queue, packets, 32);
		uint16_t sent = rte_eth_tx_burst(port, queue, packets, count);

		received += count;
		if (unlikely(sent < count))
			rte_pktmbuf_free_bulk(&packets[sent], count - sent);
	}
	return received;
}
