//go:build !purego

#include "textflag.h"

// func sumBlocksAVX2(b []byte) uint64
//
// Every lane of 64 bits keeps two numbers: the sum of its words as it is, which
// overflows (Y0-Y3), and the sum of their upper halves, which does not (Y4-Y7).
// The second tells what the first has lost: the sum of the lower halves is the
// first less the second shifted up. As 2^32 is 1 modulo 2^16-1, the two sums of
// halves may be added. That is three instructions for 32 bytes, and no carries.
TEXT ·sumBlocksAVX2(SB), NOSPLIT, $0-32
	MOVQ b_base+0(FP), SI
	MOVQ b_len+8(FP), CX
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1
	VPXOR Y2, Y2, Y2
	VPXOR Y3, Y3, Y3
	VPXOR Y4, Y4, Y4
	VPXOR Y5, Y5, Y5
	VPXOR Y6, Y6, Y6
	VPXOR Y7, Y7, Y7
	SUBQ $128, CX
	JLT  rest

loop:
	VMOVDQU 0(SI), Y8
	VMOVDQU 32(SI), Y9
	VMOVDQU 64(SI), Y10
	VMOVDQU 96(SI), Y11
	VPSRLQ  $32, Y8, Y12
	VPSRLQ  $32, Y9, Y13
	VPSRLQ  $32, Y10, Y14
	VPSRLQ  $32, Y11, Y15
	VPADDQ  Y8, Y0, Y0
	VPADDQ  Y9, Y1, Y1
	VPADDQ  Y10, Y2, Y2
	VPADDQ  Y11, Y3, Y3
	VPADDQ  Y12, Y4, Y4
	VPADDQ  Y13, Y5, Y5
	VPADDQ  Y14, Y6, Y6
	VPADDQ  Y15, Y7, Y7
	ADDQ    $128, SI
	SUBQ    $128, CX
	JGE     loop

rest:
	TESTQ   $64, CX
	JZ      fold
	VMOVDQU 0(SI), Y8
	VMOVDQU 32(SI), Y9
	VPSRLQ  $32, Y8, Y12
	VPSRLQ  $32, Y9, Y13
	VPADDQ  Y8, Y0, Y0
	VPADDQ  Y9, Y1, Y1
	VPADDQ  Y12, Y4, Y4
	VPADDQ  Y13, Y5, Y5

fold:
	VPADDQ       Y1, Y0, Y0
	VPADDQ       Y3, Y2, Y2
	VPADDQ       Y5, Y4, Y4
	VPADDQ       Y7, Y6, Y6
	VPADDQ       Y2, Y0, Y0
	VPADDQ       Y6, Y4, Y4
	VPSLLQ       $32, Y4, Y5
	VPSUBQ       Y5, Y0, Y0
	VPADDQ       Y4, Y0, Y0
	VEXTRACTI128 $1, Y0, X1
	VPADDQ       X1, X0, X0
	VPSHUFD      $0xee, X0, X1
	VPADDQ       X1, X0, X0
	VMOVQ        X0, AX
	VZEROUPPER
	MOVQ         AX, ret+24(FP)
	RET
