/* takes <bytes>: asks for so much memory, and prints the result. */
#include <stdint.h>

#include "driver.h"

int main(int count, char **words) {
    CUdeviceptr address;
    if (count != 2) return 2;
    use_device(0);
    printf("%u\n", CALL(cuMemAlloc_v2, "cuMemAlloc_v2")(&address, strtoull(words[1], 0, 10)));
    return 0;
}
