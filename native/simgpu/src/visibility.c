/*
 * Which cards a process may use: those whose device node it can open, as with the real driver.
 *
 * The device cgroup of a container answers open() with EPERM. A node without a driver behind it
 * answers ENXIO once the cgroup has let the call pass, so ENXIO means allowed.
 */
#include "simgpu_core.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool may_open(const char *node) {
    const char *folder = getenv("SIMGPU_DEV");
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder && *folder ? folder : "/dev", node);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno == ENXIO || errno == ENODEV;
    close(fd);
    return true;
}

static bool comes_before(int left, int right) {
    const struct simgpu_card_facts *a = &simgpu->cards[left].facts, *b = &simgpu->cards[right].facts;
    uint64_t place_a = a->pci_domain << 16 | a->pci_bus << 8 | a->pci_device;
    uint64_t place_b = b->pci_domain << 16 | b->pci_bus << 8 | b->pci_device;
    return place_a < place_b;
}

int simgpu_visible_cards(int cards[SIMGPU_MAX_CARDS]) {
    int count = 0;
    for (int card = 0; card < (int)simgpu->card_count; card++) {
        char node[32];
        snprintf(node, sizeof node, "nvidia%d", (int)simgpu->cards[card].facts.minor);
        if (!may_open(node))
            continue;
        int place = count++;
        for (; place > 0 && comes_before(card, cards[place - 1]); place--)
            cards[place] = cards[place - 1];
        cards[place] = card;
    }
    return count;
}

bool simgpu_driver_reachable(void) {
    return may_open("nvidiactl");
}
