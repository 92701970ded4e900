// What the Gowin primitives do in the modes that Weft uses them in. Yosys has only black boxes of them;
// these models are our own and have not been compared with the vendor's. A parameter or an input in
// any other mode stops the simulation.

module MULT9X9(
    input [8:0] A, B, SIA, SIB, input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET,
    output [17:0] DOUT, output [8:0] SOA, SOB);
  parameter AREG = 1'b0;
  parameter BREG = 1'b0;
  parameter OUT_REG = 1'b0;
  parameter PIPE_REG = 1'b0;
  parameter ASIGN_REG = 1'b0;
  parameter BSIGN_REG = 1'b0;
  parameter SOA_REG = 1'b0;
  parameter MULT_RESET_MODE = "SYNC";

  reg signed [8:0] a, b;
  reg signed [17:0] inside, out;
  always @(posedge CLK) begin
    a <= A;
    b <= B;
    inside <= a * b;
    out <= PIPE_REG ? inside : a * b;
  end
  assign DOUT = out;

  always @* assert (AREG && BREG && OUT_REG && !ASIGN_REG && !BSIGN_REG && !SOA_REG
                    && MULT_RESET_MODE == "SYNC" && ASIGN && BSIGN && !ASEL && !BSEL && CE && !RESET);
endmodule

module MULT18X18(
    input [17:0] A, B, SIA, SIB, input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET,
    output [35:0] DOUT, output [17:0] SOA, SOB);
  parameter AREG = 1'b0;
  parameter BREG = 1'b0;
  parameter OUT_REG = 1'b0;
  parameter PIPE_REG = 1'b0;
  parameter ASIGN_REG = 1'b0;
  parameter BSIGN_REG = 1'b0;
  parameter SOA_REG = 1'b0;
  parameter MULT_RESET_MODE = "SYNC";

  reg signed [17:0] a, b;
  reg signed [35:0] inside, out;
  always @(posedge CLK) begin
    a <= A;
    b <= B;
    inside <= a * b;
    out <= PIPE_REG ? inside : a * b;
  end
  assign DOUT = out;

  always @* assert (AREG && BREG && OUT_REG && !ASIGN_REG && !BSIGN_REG && !SOA_REG
                    && MULT_RESET_MODE == "SYNC" && ASIGN && BSIGN && !ASEL && !BSEL && CE && !RESET);
endmodule

// Port A writes, port B reads. In the shapes wider than 9 bits the lowest address bits of port A are
// byte enables. Reading a row while it is written yields the old one here; Gowin leaves it open. The
// output register is known to work with 36 bits only.
module SDPX9B(
    input CLKA, CEA, CLKB, CEB, OCE, RESETA, RESETB, input [13:0] ADA, ADB,
    input [2:0] BLKSELA, BLKSELB, input [35:0] DI, output [35:0] DO);
  parameter READ_MODE = 1'b0;
  parameter BIT_WIDTH_0 = 36;
  parameter BIT_WIDTH_1 = 36;
  parameter BLK_SEL_0 = 3'b000;
  parameter BLK_SEL_1 = 3'b000;
  parameter RESET_MODE = "SYNC";

  localparam W = BIT_WIDTH_0;
  localparam SKIP = W == 36 ? 5 : W == 18 ? 4 : 3;
  wire [3:0] enable = W > 9 ? ADA[3:0] : 4'b1111;

  reg [W-1:0] memory [0:(1 << (14 - SKIP)) - 1];
  integer i;
  initial for (i = 0; i < 1 << (14 - SKIP); i = i + 1) memory[i] = 0;

  reg [W-1:0] row, out;
  always @(posedge CLKA) begin
    for (i = 0; i < W / 9; i = i + 1)
      if (CEA && enable[i]) memory[ADA >> SKIP][i * 9 +: 9] <= DI[i * 9 +: 9];
    if (CEB) row <= memory[ADB >> SKIP];
    if (OCE) out <= row;
  end
  assign DO = READ_MODE ? out : row;

  always @* assert (BIT_WIDTH_0 == BIT_WIDTH_1 && (W == 36 || W == 18 || W == 9)
                    && (READ_MODE ? W == 36 : OCE == CEB) && RESET_MODE == "SYNC"
                    && BLK_SEL_0 == BLKSELA && BLK_SEL_1 == BLKSELB && !RESETA && !RESETB);
endmodule

module SDPB(
    input CLKA, CEA, CLKB, CEB, OCE, RESETA, RESETB, input [13:0] ADA, ADB,
    input [2:0] BLKSELA, BLKSELB, input [31:0] DI, output [31:0] DO);
  parameter READ_MODE = 1'b0;
  parameter BIT_WIDTH_0 = 32;
  parameter BIT_WIDTH_1 = 32;
  parameter BLK_SEL_0 = 3'b000;
  parameter BLK_SEL_1 = 3'b000;
  parameter RESET_MODE = "SYNC";

  localparam W = BIT_WIDTH_0;
  localparam SKIP = W == 4 ? 2 : W == 2 ? 1 : 0;

  reg [W-1:0] memory [0:(1 << (14 - SKIP)) - 1];
  integer i;
  initial for (i = 0; i < 1 << (14 - SKIP); i = i + 1) memory[i] = 0;

  reg [W-1:0] row;
  always @(posedge CLKA) begin
    if (CEA) memory[ADA >> SKIP] <= DI[W-1:0];
    if (CEB) row <= memory[ADB >> SKIP];
  end
  assign DO = row;

  always @* assert (BIT_WIDTH_0 == BIT_WIDTH_1 && (W == 4 || W == 2 || W == 1) && !READ_MODE
                    && OCE == CEB && RESET_MODE == "SYNC" && BLK_SEL_0 == BLKSELA
                    && BLK_SEL_1 == BLKSELB && !RESETA && !RESETB);
endmodule
