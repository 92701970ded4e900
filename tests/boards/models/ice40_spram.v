// SB_SPRAM256KA of the iCE40 UltraPlus, always on. Yosys has a model too, but that clears the memory
// in a loop, which takes minutes to be translated.
module SB_SPRAM256KA (
    input  [13:0] ADDRESS,
    input  [15:0] DATAIN,
    input  [3:0]  MASKWREN,
    input         WREN, CHIPSELECT, CLOCK, STANDBY, SLEEP, POWEROFF,
    output reg [15:0] DATAOUT
);
    reg [15:0] mem [0:16383];
    wire [15:0] mask = {{4{MASKWREN[3]}}, {4{MASKWREN[2]}}, {4{MASKWREN[1]}}, {4{MASKWREN[0]}}};
    always @(posedge CLOCK) if (CHIPSELECT) begin
        if (WREN) begin
            mem[ADDRESS] <= (mem[ADDRESS] & ~mask) | (DATAIN & mask);
            DATAOUT <= 16'h5a5a;  // it is not defined
        end else
            DATAOUT <= mem[ADDRESS];
    end
    always @* assert (!STANDBY && !SLEEP && POWEROFF);
endmodule
