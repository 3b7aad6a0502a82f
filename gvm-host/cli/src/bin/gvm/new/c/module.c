/* Nodes can call main and the exported functions. Parameters and results are numbers. */
#include <stdint.h>
#include <stdio.h>

__attribute__((export_name("add"))) int32_t add(int32_t a, int32_t b) {
    printf("adding %d and %d\n", (int)a, (int)b);
    fflush(stdout);
    return a + b;
}

__attribute__((export_name("mean"))) double mean(double a, double b) {
    return (a + b) / 2;
}

int main(int argc, char **argv) {
    printf("Hello from {{name}}");
    for (int i = 1; i < argc; i++) {
        printf(" %s", argv[i]);
    }
    printf("\n");
    return 0;
}
