// Clocks a SoC and prints what it sends, until it sends an EOT or the cycles are over.

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "Vweft_soc.h"

int main(int count, char **arguments)
{
    const std::uint64_t limit = count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 0;
    VerilatedContext context;
    Vweft_soc soc{&context};

    soc.serial_source_ready = 1;
    for (std::uint64_t cycle = 0; cycle < limit; cycle++) {
        soc.sys_clk = 0;
        soc.eval();
        if (soc.serial_source_valid) {
            if (soc.serial_source_data == 4) {
                std::printf("%llu cycles of the SoC\n", static_cast<unsigned long long>(cycle));
                return 0;
            }
            std::putchar(soc.serial_source_data);
            std::fflush(stdout);
        }
        soc.sys_clk = 1;
        soc.eval();
    }
    std::printf("no end after %llu cycles\n", static_cast<unsigned long long>(limit));
    return 1;
}
