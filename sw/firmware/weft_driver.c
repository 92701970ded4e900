#include "weft_driver.h"

#define WATCHDOG_CYCLES 1000000u
#define COMMAND_CYCLES  (1u << 24)   /* on average, waiting included: far more than any takes */
#define STATUS_READS    10000
#define IDLE_READS      3

static uint32_t read(const struct weft_device *device, uint32_t address)
{
    return device->registers[address / 4];
}

static void write(struct weft_device *device, uint32_t address, uint32_t value)
{
    device->registers[address / 4] = value;
}

static void synchronize(const struct weft_device *device)
{
    __asm__ volatile("" ::: "memory");   /* the compiler keeps the order, too */
    if (device->synchronize)
        device->synchronize();
}

weft_result weft_open(struct weft_device *device, volatile uint32_t *registers,
                      void (*synchronize)(void))
{
    device->registers = registers;
    device->synchronize = synchronize;
    device->program = 0;
    if (read(device, WEFT_ID) != WEFT_DEVICE_ID)
        return WEFT_NO_DEVICE;
    if (read(device, WEFT_VERSION) != WEFT_DEVICE_VERSION)
        return WEFT_WRONG_VERSION;
    return weft_reset(device);
}

weft_result weft_reset(struct weft_device *device)
{
    int idle = 0;

    device->warm = false;
    write(device, WEFT_CONTROL, WEFT_CONTROL_RESET);
    /* The reset comes a few cycles after the memory has gone quiet, and a doorbell before that is
     * lost: one idle status is not enough. */
    for (int reads = 0; idle < IDLE_READS; reads++) {
        if (reads == STATUS_READS)
            return WEFT_NOT_IDLE;
        idle = read(device, WEFT_STATUS) == WEFT_STATUS_QUIET ? idle + 1 : 0;
    }
    write(device, WEFT_WATCHDOG, WATCHDOG_CYCLES);
    write(device, WEFT_IRQ_ENABLE, 0);
    return WEFT_OK;
}

/* Adds the bus address to the addresses of all loads and stores among some commands. */
static void relocate(uint8_t *command, uint32_t count, uint64_t bus_address)
{
    for (; count > 0; count--, command += WEFT_COMMAND_BYTES) {
        uint8_t *field;
        uint64_t address = 0;

        if (command[0] == WEFT_OPCODE_LOAD)
            field = command + WEFT_LOAD_ADDRESS_BIT / 8;
        else if (command[0] == WEFT_OPCODE_STORE)
            field = command + WEFT_STORE_ADDRESS_BIT / 8;
        else
            continue;
        for (int byte = 7; byte >= 0; byte--)
            address = address << 8 | field[byte];
        address += bus_address;
        for (int byte = 0; byte < 8; byte++)
            field[byte] = (uint8_t)(address >> 8 * byte);
    }
}

weft_result weft_load(struct weft_device *device, const struct weft_program *program,
                      void *memory, uint64_t bus_address)
{
    device->program = 0;
    device->warm = false;
    if (bus_address % WEFT_ALIGNMENT)
        return WEFT_UNALIGNED;
    for (uint32_t word = 0; word < WEFT_CONFIG_WORDS; word++)
        if (read(device, WEFT_CONFIG_BASE + 4 * word) != program->config[word])
            return WEFT_WRONG_CONFIG;
    device->program = program;
    device->memory = memory;
    device->bus_address = bus_address;
    for (uint32_t byte = 0; byte < program->image_bytes; byte++)
        device->memory[byte] = program->image[byte];
    relocate(device->memory + program->command_address, program->command_count, bus_address);
    relocate(device->memory + program->warm_address, program->warm_count, bus_address);
    return WEFT_OK;
}

/* Copies a tensor between the model's values and the program's memory. */
static void copy(const struct weft_tensor *tensor, uint8_t *memory, uint8_t *values, bool to_memory)
{
    const uint8_t flip = tensor->is_unsigned ? 0x80 : 0;
    const uint32_t *place = tensor->places;

    for (uint32_t r = 0; r < tensor->row_parts; r++)
        for (uint32_t s = 0; s < tensor->column_parts; s++)
            for (uint32_t c = 0; c < tensor->channels; c++) {
                uint8_t *byte = memory + tensor->address + *place++;

                for (uint32_t y = 0; y < tensor->height; y++) {
                    const int32_t row = tensor->rows[r * tensor->height + y];

                    for (uint32_t x = 0; x < tensor->width; x++, byte += tensor->word_bytes) {
                        const int32_t column = tensor->columns[s * tensor->width + x];
                        uint8_t *value;

                        if (row < 0 || column < 0) {
                            *byte = (uint8_t)tensor->zero_point ^ flip;
                            continue;
                        }
                        value = values + c * tensor->channel_step
                            + (uint32_t)row * tensor->row_step
                            + (uint32_t)column * tensor->column_step;
                        if (to_memory)
                            *byte = *value ^ flip;
                        else
                            *value = *byte ^ flip;
                    }
                }
            }
}

void weft_write_input(struct weft_device *device, uint32_t index, const void *values)
{
    const struct weft_tensor *tensor = &device->program->inputs[index];

    for (uint32_t byte = 0; byte < tensor->size; byte++)   /* lanes without a channel are zero */
        device->memory[tensor->address + byte] = 0;
    copy(tensor, device->memory, (uint8_t *)values, true);
}

void weft_read_output(struct weft_device *device, uint32_t index, void *values)
{
    copy(&device->program->outputs[index], device->memory, values, false);
}

weft_result weft_start(struct weft_device *device)
{
    const struct weft_program *program = device->program;
    const bool warm = device->warm && program->warm_count;
    uint64_t address, limit;
    uint32_t count;

    if (!program)
        return WEFT_NO_PROGRAM;
    if (read(device, WEFT_STATUS) & (WEFT_STATUS_BUSY | WEFT_STATUS_ERROR))
        return WEFT_NOT_IDLE;
    synchronize(device);
    address = device->bus_address + (warm ? program->warm_address : program->command_address);
    count = warm ? program->warm_count : program->command_count;
    limit = (uint64_t)count * COMMAND_CYCLES;
    write(device, WEFT_COMMAND_ADDR, (uint32_t)address);
    write(device, WEFT_COMMAND_ADDRH, (uint32_t)(address >> 32));
    write(device, WEFT_COMMAND_COUNT, count);
    write(device, WEFT_CYCLE_LIMIT, limit > UINT32_MAX ? UINT32_MAX : (uint32_t)limit);
    write(device, WEFT_CONTROL, WEFT_CONTROL_START);
    return WEFT_OK;
}

bool weft_is_done(const struct weft_device *device)
{
    return read(device, WEFT_STATUS) & (WEFT_STATUS_DONE | WEFT_STATUS_ERROR);
}

weft_result weft_finish(struct weft_device *device)
{
    const uint32_t status = read(device, WEFT_STATUS);

    write(device, WEFT_IRQ_CLEAR, 1);
    synchronize(device);
    device->warm = !(status & WEFT_STATUS_ERROR);
    return status & WEFT_STATUS_ERROR ? (weft_result)read(device, WEFT_ERROR) : WEFT_OK;
}

weft_result weft_wait(struct weft_device *device)
{
    while (!weft_is_done(device))
        ;
    return weft_finish(device);
}

void weft_enable_interrupt(struct weft_device *device, bool on)
{
    write(device, WEFT_IRQ_ENABLE, on);
}

uint32_t weft_counter(const struct weft_device *device, uint32_t counter)
{
    return read(device, WEFT_COUNTER_BASE + 4 * counter);
}

uint32_t weft_failed_command(const struct weft_device *device)
{
    return read(device, WEFT_ERROR_INDEX);
}

void weft_quantize(const struct weft_tensor *tensor, const float *reals, void *values)
{
    const float low = (tensor->is_unsigned ? 0.0f : -128.0f) - (float)tensor->zero_point;
    uint8_t *bytes = values;

    for (uint32_t index = 0; index < tensor->count; index++) {
        volatile float scaled = reals[index] / tensor->scale;

        /* What is left after a sum with 1.5 * 2**23 is rounded to nearest, halves to even. */
        scaled = scaled > low ? scaled : low;
        scaled = scaled < low + 255.0f ? scaled : low + 255.0f;
        scaled = scaled + 12582912.0f;
        scaled = scaled - 12582912.0f;
        bytes[index] = (uint8_t)((int32_t)scaled + tensor->zero_point);
    }
}

float weft_real(const struct weft_tensor *tensor, const void *values, uint32_t index)
{
    const int32_t value = tensor->is_unsigned ? ((const uint8_t *)values)[index]
                                              : ((const int8_t *)values)[index];

    return tensor->scale * (float)(value - tensor->zero_point);
}

const char *weft_message(weft_result result)
{
    switch (result) {
    case WEFT_OK:            return "done";
    case WEFT_NO_DEVICE:     return "there is no Weft accelerator at this address";
    case WEFT_WRONG_VERSION: return "the accelerator is of another version than this driver";
    case WEFT_WRONG_CONFIG:  return "the accelerator has another configuration than the program";
    case WEFT_NOT_IDLE:      return "the accelerator is not idle: reset it";
    case WEFT_UNALIGNED:     return "the memory of a program must be aligned to WEFT_ALIGNMENT";
    case WEFT_NO_PROGRAM:    return "no program is loaded";
#define WEFT_CASE(name, text) case WEFT_ERROR_##name: return #name ": " text;
    WEFT_ERRORS(WEFT_CASE)
#undef WEFT_CASE
    default:                 return "unknown error";
    }
}
