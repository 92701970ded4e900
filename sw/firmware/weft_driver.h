/* Driver of a Weft accelerator: C99, without a library or an operating system.
 *
 *     struct weft_device device;
 *     weft_open(&device, registers, 0);
 *     weft_load(&device, &weft_program_NAME, memory, bus_address);
 *     weft_write_input(&device, 0, pixels);
 *     weft_start(&device);
 *     weft_wait(&device);
 *     weft_read_output(&device, 0, scores);
 *
 * Functions that can fail give a weft_result; weft_message() says in a line what it means. The
 * processor must be little-endian. */

#ifndef WEFT_DRIVER_H
#define WEFT_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "weft_hw.h"

/* WEFT_OK, one of the WEFT_ERROR_... of a device that stopped, or one of these. */
typedef int weft_result;

enum {
    WEFT_OK            = 0,
    WEFT_NO_DEVICE     = -1,
    WEFT_WRONG_VERSION = -2,
    WEFT_WRONG_CONFIG  = -3,
    WEFT_NOT_IDLE      = -4,
    WEFT_UNALIGNED     = -5,
    WEFT_NO_PROGRAM    = -6
};

/* A tensor as the model has it, and as it lies in the program's memory.
 *
 * In memory a channel holds values of one channel of the model, at some of its rows and columns:
 * channel (r * column_parts + s) * channels + c at row y and column x is that of channel c, row
 * rows[r * height + y] and column columns[s * width + x], or zero_point where one of these is
 * negative. It is in byte places[channel] of word y * width + x. */
struct weft_tensor {
    const char *name;            /* the model's tensor */
    uint32_t count;              /* values */
    float scale;                 /* value = scale * (q - zero_point) */
    int32_t zero_point;
    bool is_unsigned;            /* uint8 in the model; int8 otherwise */
    uint32_t address, size;      /* bytes, from the start of the program's memory */
    uint32_t channels;
    uint32_t row_parts, column_parts;
    uint32_t height, width;      /* in memory */
    uint32_t word_bytes;
    const uint32_t *places;
    const int32_t *rows, *columns;
    uint32_t channel_step, row_step, column_step;  /* in the model's values, flat */
};

/* What `weft compile --c` writes. */
struct weft_program {
    const char *name;
    const uint32_t *config;      /* what the device must say of itself: its configuration ROM */
    const uint8_t *image;        /* the first image_bytes of the memory */
    uint32_t image_bytes;
    uint32_t memory_bytes;
    uint32_t command_address, command_count;
    uint32_t warm_address, warm_count;  /* the same once constants are on chip; count 0: none */
    const struct weft_tensor *inputs, *outputs;
    uint32_t input_count, output_count;
};

struct weft_device {
    volatile uint32_t *registers;
    void (*synchronize)(void);
    const struct weft_program *program;
    uint8_t *memory;
    uint64_t bus_address;
    bool warm;                   /* the constants of the program are on chip */
};

/* Finds out whether there is an accelerator, and resets it.
 *
 * registers:   its control port, mapped uncached.
 * synchronize: makes what the processor has written to memory visible to the accelerator and the
 *              other way round: empties and invalidates the data cache. 0 if there is none. */
weft_result weft_open(struct weft_device *device, volatile uint32_t *registers,
                      void (*synchronize)(void));

/* Brings it back to idle from any state. Interrupts are off then, and the watchdog is set. */
weft_result weft_reset(struct weft_device *device);

/* Copies a program to memory, with the addresses in its commands moved to where it lies.
 *
 * memory:      program->memory_bytes, where the processor sees them.
 * bus_address: the same where the accelerator sees them; a multiple of WEFT_ALIGNMENT. */
weft_result weft_load(struct weft_device *device, const struct weft_program *program,
                      void *memory, uint64_t bus_address);

/* Writes an input: its `count` values in the model's order, int8_t or uint8_t. */
void weft_write_input(struct weft_device *device, uint32_t index, const void *values);

/* Reads an output, in the same form. */
void weft_read_output(struct weft_device *device, uint32_t index, void *values);

/* Rings the doorbell. */
weft_result weft_start(struct weft_device *device);

/* Whether it is done, or has stopped; ask weft_finish() which. */
bool weft_is_done(const struct weft_device *device);

/* Acknowledges the end, and the interrupt, and says how it went: in an interrupt handler, or behind
 * weft_is_done(). */
weft_result weft_finish(struct weft_device *device);

/* Waits for the end by asking, then as weft_finish(). */
weft_result weft_wait(struct weft_device *device);

/* Turns its interrupt on or off. */
void weft_enable_interrupt(struct weft_device *device, bool on);

/* A performance counter of the last run: WEFT_COUNTER_CYCLES and the like. */
uint32_t weft_counter(const struct weft_device *device, uint32_t counter);

/* Index in the stream of the command at which it stopped. */
uint32_t weft_failed_command(const struct weft_device *device);

/* Values of the model's tensor, int8_t or uint8_t, from real numbers, as ONNX's QuantizeLinear. */
void weft_quantize(const struct weft_tensor *tensor, const float *reals, void *values);

/* One value of it as a real number. */
float weft_real(const struct weft_tensor *tensor, const void *values, uint32_t index);

const char *weft_message(weft_result result);

#endif
