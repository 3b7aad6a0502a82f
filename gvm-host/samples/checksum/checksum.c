/* The CRC-32 of ISO 3309. In: arguments of the command line, or a number. Out: their checksums. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint32_t crc(const void *data, size_t length) {
    uint32_t sum = 0xffffffff;
    for (const uint8_t *byte = data; length--; byte++) {
        sum ^= *byte;
        for (int bit = 0; bit < 8; bit++) {
            sum = (sum >> 1) ^ (sum & 1 ? 0xedb88320 : 0);
        }
    }
    return ~sum;
}

/* The checksum of the eight bytes of a number, in little-endian order. */
__attribute__((export_name("of-number"))) int64_t of_number(int64_t number) {
    return crc(&number, sizeof number);
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        printf("%08x %s\n", (unsigned)crc(argv[i], strlen(argv[i])), argv[i]);
    }
    return 0;
}
