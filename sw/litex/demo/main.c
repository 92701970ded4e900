/* Frames through the accelerator of a LiteX SoC: prints the class of each. */

#include <irq.h>

#include <generated/csr.h>
#include <generated/mem.h>
#include <generated/soc.h>

#include "frames.h"
#include "network.h"

#define END_OF_TRANSMISSION 4   /* at which the simulation ends */

static struct weft_device device;
static volatile bool finished;
static volatile weft_result result;

/* The memory of the program, at the start of the main RAM. */
static uint8_t *const memory = (uint8_t *)MAIN_RAM_BASE;
_Static_assert(WEFT_MEMORY_NETWORK <= MAIN_RAM_SIZE, "the program needs more main RAM");

static void print_character(char character)
{
    while (uart_txfull_read())
        ;
    uart_rxtx_write(character);
}

static void print(const char *text)
{
    while (*text)
        print_character(*text++);
}

static void print_number(uint32_t number)
{
    if (number >= 10)
        print_number(number / 10);
    print_character((char)('0' + number % 10));
}

static void synchronize(void)
{
    flush_cpu_dcache();
}

/* Called by LiteX's crt0.S. */
void isr(void);
void isr(void)
{
    if (irq_pending() & irq_getmask() & (1u << WEFT_INTERRUPT)) {
        result = weft_finish(&device);
        finished = true;
    }
}

static weft_result run(bool by_interrupt)
{
    weft_result started;

    finished = false;
    weft_enable_interrupt(&device, by_interrupt);
    if ((started = weft_start(&device)) != WEFT_OK)
        return started;
    if (!by_interrupt)
        return weft_wait(&device);
    while (!finished)
        ;
    return result;
}

static uint32_t largest(const struct weft_tensor *tensor, const void *values)
{
    uint32_t best = 0;

    for (uint32_t index = 1; index < tensor->count; index++)
        if (weft_real(tensor, values, index) > weft_real(tensor, values, best))
            best = index;
    return best;
}

static weft_result run_frame(uint32_t number)
{
    const struct weft_tensor *input = &weft_program_network.inputs[0];
    const struct weft_tensor *output = &weft_program_network.outputs[0];
    const bool by_interrupt = number % 2;
    float reals[FRAME_VALUES];
    uint8_t values[FRAME_VALUES], scores[FRAME_SCORES];
    weft_result done;

    for (uint32_t index = 0; index < FRAME_VALUES; index++)
        reals[index] = frames[number][index];
    weft_quantize(input, reals, values);
    weft_write_input(&device, 0, values);
    if ((done = run(by_interrupt)) != WEFT_OK)
        return done;
    weft_read_output(&device, 0, scores);
    print("frame ");
    print_number(number);
    print(": class ");
    print_number(largest(output, scores));
    print(", ");
    print_number(weft_counter(&device, WEFT_COUNTER_CYCLES));
    print(by_interrupt ? " cycles, interrupt, scores" : " cycles, polled, scores");
    for (uint32_t index = 0; index < output->count; index++) {
        print(" ");
        print_number(scores[index]);
    }
    print("\n");
    return WEFT_OK;
}

int main(void)
{
    weft_result done;

    weft_ev_enable_write(1);
    irq_setmask(irq_getmask() | 1u << WEFT_INTERRUPT);
    irq_setie(1);

    done = weft_open(&device, (volatile uint32_t *)WEFT_BASE, synchronize);
    if (done == WEFT_OK)
        done = weft_load(&device, &weft_program_network, memory, MAIN_RAM_BASE);
    for (uint32_t number = 0; number < FRAMES && done == WEFT_OK; number++)
        done = run_frame(number);
    print(weft_message(done));
    print("\n");
    print_character(END_OF_TRANSMISSION);
    for (;;)
        ;
}
