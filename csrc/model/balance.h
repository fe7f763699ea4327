// Cross-layer equalisation before weights are rounded (Nagel et al. 2019, arXiv:1906.04721).
//
// Where a matrix B multiplies the outputs of a matrix A, or what is proportional to them, channel for channel, the rows
// of A may be multiplied by factors and the columns of B divided by them. Both errors, that of B's weights and that of
// its inputs, grow with (sum of the inputs' squares) times (sum of the weights' squares) of a group; factors that make
// a channel's inputs as large as its weights make that least.
#pragma once

#include <string>
#include <vector>

#include "packing/matrix.h"

namespace pygpt {

// The channels of another matrix to which the inputs of one are proportional: `rows` of them, in runs of `run` that
// feed `repeats` runs of inputs each.
struct Source {
    std::string whole;  // their matrix, by the name that the engine has for it
    Channels channels;
    int rows;
    int run;
    int repeats;

    int row_of(int input) const { return input / run / repeats * run + input % run; }
};

// (source.rows,) factors between 1/64 and 64, from the scales of the source's matrix and a sample of the rows of `to`.
std::vector<float> balance(const Source& source, const PackedMatrix& from, const Plain& to);

// (to.cols,) the same between 1/8 and 8 for the outputs of a norm, which are taken to be of one size, from a sample of
// the rows of `to`.
std::vector<float> balance_norm(const Plain& to);

}  // namespace pygpt
