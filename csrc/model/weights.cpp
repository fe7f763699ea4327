#include "model/weights.h"

#include <algorithm>
#include <type_traits>

#include "base/error.h"

namespace pygpt {

namespace {

std::string shape_text(int rows, int cols) {
    return cols == 1 ? "(" + std::to_string(rows) + ",)"
                     : "(" + std::to_string(rows) + ", " + std::to_string(cols) + ")";
}

Linear make_linear(int n, int k, bool bias, DType dtype) {
    Linear linear{PackedMatrix(n, k, dtype), {}};
    if (bias) linear.bias.resize(static_cast<std::size_t>(round_up(n, 16)));
    return linear;
}

std::size_t part_bytes(const PackedMatrix& m) { return m.bytes(); }
std::size_t part_bytes(const std::vector<float>& v) { return v.size() * sizeof(float); }

void list(std::vector<PackedTensor>& out, const std::string& name, const std::vector<float>& v) {
    out.push_back({name, DType::f32, {v.size()}, v.data()});
}

void list(std::vector<PackedTensor>& out, const std::string& name, const PackedMatrix& m) {
    const auto panels = static_cast<std::size_t>(m.panels()), k = static_cast<std::size_t>(m.k());
    if (m.dtype() != DType::i8) {
        out.push_back({name, m.dtype(), {panels, k, 16}, m.data()});
        return;
    }
    out.push_back({name, DType::i8, {panels, static_cast<std::size_t>(padded_inputs(m.k())) / 4, 16, 4}, m.data()});
    out.push_back(
        {name + ".scales", DType::bf16, {panels, static_cast<std::size_t>(int8_groups(m.k())), 16}, m.scales()});
}

// No bit of the sign, and below infinity.
bool usable(const std::uint16_t* scales, std::size_t n) {
    bool ok = true;
    for (std::size_t i = 0; i < n; ++i) ok &= scales[i] < 0x7f80u;
    return ok;
}

}  // namespace

std::size_t Weights::bytes() const {
    std::size_t sum = 0;
    for_each_part(*this, [&](const std::string&, const auto& part) { sum += part_bytes(part); });
    return sum;
}

std::vector<PackedTensor> packed_tensors(const Weights& weights) {
    std::vector<PackedTensor> tensors;
    for_each_part(weights, [&](const std::string& name, const auto& part) { list(tensors, name, part); });
    return tensors;
}

WeightsBuilder::WeightsBuilder(const ModelConfig& config, DType dtype, const Kernels& kernels)
    : config_(config), dtype_(dtype), kernels_(kernels) {
    const auto size = [](int a) { return static_cast<std::size_t>(a); };
    weights_.embed = PackedMatrix(config_.n_vocab, config_.n_embd, dtype_);
    add_matrix("embed.weight", weights_.embed, config_.n_vocab, {});
    if (config_.learned_positions) {
        weights_.positions.resize(size(config_.n_ctx) * size(config_.n_embd));
        add_vector("pos.weight", weights_.positions.data(), config_.n_ctx, config_.n_embd);
    }
    weights_.blocks.resize(config_.layers.size());
    for (int i = 0; i < config_.n_layer(); ++i) add_block("blocks." + std::to_string(i), weights_.blocks[size(i)]);
    if (config_.final_norm()) add_norm("norm", weights_.norm);
    if (!config_.tied_head) {
        weights_.head = PackedMatrix(config_.n_vocab, config_.n_embd, dtype_);
        add_matrix("head.weight", weights_.head, config_.n_vocab, {});
    }
}

void WeightsBuilder::add_block(const std::string& name, Block& b) {
    const int q = config_.q_width(), kv = config_.kv_width(), embd = config_.n_embd, inner = config_.n_inner;
    add_norm(name + ".attn_norm", b.attn_norm);
    b.qkv = make_linear(config_.qkv_width(), embd, config_.qkv_bias, dtype_);
    const auto add_part = [&](const std::string& part, int rows, int first) {
        add_matrix(name + part + ".weight", b.qkv.weight, rows, {first, 16});
        if (config_.qkv_bias) add_vector(name + part + ".bias", b.qkv.bias.data() + first, rows, 1);
    };
    add_part(".attn.q", q, 0);
    add_part(".attn.k", kv, q);
    add_part(".attn.v", kv, q + kv);
    b.attn_out = make_linear(embd, q, config_.attn_out_bias, dtype_);
    add_matrix(name + ".attn.out.weight", b.attn_out.weight, embd, {});
    if (config_.attn_out_bias) add_vector(name + ".attn.out.bias", b.attn_out.bias.data(), embd, 1);
    add_norm(name + ".mlp_norm", b.mlp_norm);
    b.up = make_linear(config_.up_width(), embd, config_.mlp_bias, dtype_);
    if (config_.gated_mlp) {
        add_matrix(name + ".mlp.gate.weight", b.up.weight, inner, {0, 32});
        add_matrix(name + ".mlp.up.weight", b.up.weight, inner, {16, 32});
        if (config_.mlp_bias) {
            slots_[name + ".mlp.gate.bias"] = {inner, 1, nullptr, {0, 32}, b.up.bias.data(), false};
            slots_[name + ".mlp.up.bias"] = {inner, 1, nullptr, {16, 32}, b.up.bias.data(), false};
        }
    } else {
        add_matrix(name + ".mlp.up.weight", b.up.weight, inner, {});
        if (config_.mlp_bias) add_vector(name + ".mlp.up.bias", b.up.bias.data(), inner, 1);
    }
    b.down = make_linear(embd, inner, config_.mlp_bias, dtype_);
    add_matrix(name + ".mlp.down.weight", b.down.weight, embd, {});
    if (config_.mlp_bias) add_vector(name + ".mlp.down.bias", b.down.bias.data(), embd, 1);
}

void WeightsBuilder::add_norm(const std::string& name, NormWeights& norm) {
    norm.weight.resize(static_cast<std::size_t>(config_.n_embd));
    add_vector(name + ".weight", norm.weight.data(), config_.n_embd, 1);
    if (config_.norm == Norm::layer_norm) {
        norm.bias.resize(static_cast<std::size_t>(config_.n_embd));
        add_vector(name + ".bias", norm.bias.data(), config_.n_embd, 1);
    }
}

void WeightsBuilder::add_matrix(const std::string& name, PackedMatrix& matrix, int rows, Channels channels) {
    slots_[name] = {rows, matrix.k(), &matrix, channels, nullptr, false};
}

void WeightsBuilder::add_vector(const std::string& name, float* data, int rows, int cols) {
    slots_[name] = {rows, cols, nullptr, {}, data, false};
}

void WeightsBuilder::add(const std::string& name, const Plain& tensor, Team& team,
                         const std::function<void()>& consumed) {
    const auto found = slots_.find(name);
    if (found == slots_.end()) throw InvalidArgument("this configuration has no tensor '" + name + "'");
    Slot& slot = found->second;
    if (slot.filled) throw InvalidArgument("tensor '" + name + "' was given twice");
    if (tensor.rows != slot.rows || tensor.cols != slot.cols) {
        throw InvalidArgument("tensor '" + name + "' must have shape " + shape_text(slot.rows, slot.cols) + ", not " +
                              shape_text(tensor.rows, tensor.cols));
    }
    if (slot.matrix != nullptr) {
        if (!slot.matrix->write(tensor, slot.channels, kernels_, team, consumed)) {
            throw InvalidArgument(
                "tensor '" + name +
                "' cannot be stored as int8: it holds infinities, NaNs or values near the largest float");
        }
    } else if (slot.channels.step == 16) {
        to_floats(tensor, slot.vector + slot.channels.first);
    } else {
        std::vector<float> plain(static_cast<std::size_t>(slot.rows));
        to_floats(tensor, plain.data());
        for (int i = 0; i < slot.rows; ++i) {
            slot.vector[slot.channels.first + i / 16 * slot.channels.step + i % 16] =
                plain[static_cast<std::size_t>(i)];
        }
    }
    slot.filled = true;
}

void WeightsBuilder::adopt(const std::unordered_map<std::string, const void*>& data,
                           const std::shared_ptr<const void>& owner) {
    for (const auto& [name, slot] : slots_) {
        if (slot.filled) throw InvalidArgument("tensor '" + name + "' was added before");
    }
    // int8 values need no check. Packing gives -127 at least, but -128 is harmless: AVX2's sums of two products in
    // int16 are then at most 2 * 128 * 127 = 32512, and all others are in int32.
    for_each_part(weights_, [&](const std::string& name, auto& part) {
        if constexpr (std::is_same_v<std::decay_t<decltype(part)>, PackedMatrix>) {
            const int n = part.n(), k = part.k();
            const void* scales = nullptr;
            if (dtype_ == DType::i8) {
                scales = data.at(name + ".scales");
                if (!usable(static_cast<const std::uint16_t*>(scales),
                            PackedMatrix::scale_bytes(n, k) / sizeof(BFloat16))) {
                    throw InvalidArgument("tensor '" + name + ".scales' holds a scale that is negative or not finite");
                }
            }
            part = PackedMatrix(n, k, dtype_, data.at(name), scales, owner);
        } else {
            std::copy_n(static_cast<const float*>(data.at(name)), part.size(), part.data());
        }
    });
    slots_.clear();
}

Weights WeightsBuilder::finish() {
    std::vector<std::string> missing;
    for (const auto& [name, slot] : slots_) {
        if (!slot.filled) missing.push_back(name);
    }
    if (!missing.empty()) {
        std::sort(missing.begin(), missing.end());
        std::string text =
            std::to_string(missing.size()) + " tensors are missing, first of them '" + missing.front() + "'";
        throw InvalidArgument(text);
    }
    slots_.clear();
    return std::move(weights_);
}

}  // namespace pygpt
