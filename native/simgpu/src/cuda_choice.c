/*
 * Which visible cards become CUDA devices, and in which order: CUDA_VISIBLE_DEVICES, CUDA_DEVICE_ORDER.
 *
 * As documented by the vendor: an unknown or repeated entry ends the list; entries are indices or
 * prefixes of UUIDs. Only libcuda looks at these, NVML never does.
 */
#include "cuda_api.h"

#include <stdlib.h>
#include <string.h>

static uint64_t speed(int card) {
    const struct simgpu_card_facts *facts = &simgpu->cards[card].facts;
    return facts->multiprocessors * facts->sm_clock;
}

static void order_by_speed(int *cards, int count) {
    const char *order = getenv("CUDA_DEVICE_ORDER");
    if (order && strcmp(order, "PCI_BUS_ID") == 0)
        return;
    for (int next = 1; next < count; next++) {
        int card = cards[next], place = next;
        for (; place > 0 && speed(card) > speed(cards[place - 1]); place--)
            cards[place] = cards[place - 1];
        cards[place] = card;
    }
}

/* The card that one entry of the list names, or -1. */
static int named(const char *entry, size_t length, const int *cards, int count) {
    char *end;
    long index = strtol(entry, &end, 10);
    if (end == entry + length && length)
        return index >= 0 && index < count ? cards[index] : -1;
    int match = -1;
    for (int at = 0; at < count && length > 4; at++) {
        if (strncmp(simgpu->cards[cards[at]].facts.uuid, entry, length) != 0)
            continue;
        if (match >= 0)
            return -1; /* a prefix of two cards names neither */
        match = cards[at];
    }
    return match;
}

int simgpu_ordinal(int card) {
    for (int ordinal = 0; ordinal < simgpu_device_count; ordinal++)
        if (simgpu_device_cards[ordinal] == card)
            return ordinal;
    return -1;
}

void simgpu_choose_devices(void) {
    int cards[SIMGPU_MAX_CARDS], count = simgpu_visible_cards(cards);
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    order_by_speed(cards, count);
    simgpu_device_count = 0;
    if (!list) {
        memcpy(simgpu_device_cards, cards, sizeof cards);
        simgpu_device_count = count;
        return;
    }
    while (*list) {
        size_t blank = strspn(list, " ");
        size_t length = strcspn(list += blank, ", ");
        int card = named(list, length, cards, count);
        for (int earlier = 0; earlier < simgpu_device_count; earlier++)
            if (simgpu_device_cards[earlier] == card)
                card = -1;
        if (card < 0)
            return;
        simgpu_device_cards[simgpu_device_count++] = card;
        list += length;
        list += strspn(list, " ,");
    }
}
