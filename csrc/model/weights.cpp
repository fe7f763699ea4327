#include "model/weights.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "base/error.h"

namespace pygpt {

namespace {

std::string shape_text(int rows, int cols, bool is_vector) {
    return is_vector ? "(" + std::to_string(rows) + ",)"
                     : "(" + std::to_string(rows) + ", " + std::to_string(cols) + ")";
}

std::size_t part_bytes(const PackedMatrix& m) { return m.bytes(); }
std::size_t part_bytes(const std::vector<float>& v) { return v.size() * sizeof(float); }

void list(std::vector<PackedTensor>& out, const std::string& name, const std::vector<float>& v) {
    out.push_back({name, DType::f32, {v.size()}, v.data()});
}

void list(std::vector<PackedTensor>& out, const std::string& name, const PackedMatrix& m) {
    const LinearFormat& f = m.format();
    const auto panels = static_cast<std::size_t>(m.panels()), piece = static_cast<std::size_t>(f.piece);
    if (f.piece == 0) {
        const auto blocks = static_cast<std::size_t>(m.k() / f.step),
                   rows = static_cast<std::size_t>(f.block_bytes) / 16;
        out.push_back({name, f.dtype, {panels, blocks, rows, 16}, m.data()});
        return;
    }
    std::vector<std::size_t> shape{panels, static_cast<std::size_t>(f.padded(m.k())) / piece, 16};
    if (piece > 1) shape.push_back(piece);
    out.push_back({name, f.dtype, std::move(shape), m.data()});
    if (!f.scaled) return;
    out.push_back({name + ".scales", DType::bf16, {panels, static_cast<std::size_t>(f.groups(m.k())), 16}, m.scales()});
}

// Of the memory that matrices share: a piece may end with as much unused as its next matrix would have taken.
constexpr std::size_t kPieceBytes = std::size_t{32} << 20;

// No bit of the sign, and below infinity.
bool usable(const BFloat16* scales, std::size_t n) {
    bool ok = true;
    for (std::size_t i = 0; i < n; ++i) ok &= scales[i].bits < 0x7f80u;
    return ok;
}

}  // namespace

Weights::Weights(const ModelConfig& config) : blocks(config.layers.size()) {
    for (std::size_t i = 0; i < blocks.size(); ++i) {
        const std::optional<Experts>& experts = config.layers[i].experts;
        if (experts) blocks[i].experts.resize(static_cast<std::size_t>(experts->n_expert));
    }
}

Weights::Inputs Weights::expert_inputs() const {
    Inputs found;
    for (const Block& block : blocks) {
        for (const Mlp& expert : block.experts) {
            for (const Linear* l : {&expert.up, &expert.down}) {
                (l->weight.format().prepare == nullptr ? found.plain : found.prepared) = true;
            }
        }
    }
    return found;
}

std::size_t Weights::bytes(const ModelConfig& config) const {
    std::size_t sum = 0;
    visit_wholes(config, *this, [&](const TensorSpec&, const auto& part) { sum += part_bytes(part); });
    return sum;
}

std::vector<TensorSpec> list_tensors(const ModelConfig& config) {
    std::vector<TensorSpec> tensors;
    const Weights none(config);
    visit_tensors(config, none, [&](const TensorSpec& t, const auto&) { tensors.push_back(t); });
    return tensors;
}

std::vector<PackedTensor> packed_tensors(const ModelConfig& config, const Weights& weights) {
    std::vector<PackedTensor> tensors;
    visit_wholes(config, weights, [&](const TensorSpec& t, const auto& part) { list(tensors, t.whole, part); });
    return tensors;
}

WeightsBuilder::WeightsBuilder(const ModelConfig& config, const Kernels& kernels, const LinearFormat& format)
    : config_(config), kernels_(kernels), weights_(config) {
    visit_tensors(config_, weights_, [&](const TensorSpec& t, auto& where) {
        Slot& slot = slots_.emplace(t.name, Slot{t}).first->second;
        if constexpr (std::is_same_v<std::decay_t<decltype(where)>, PackedMatrix>) {
            if (where.n() == 0)
                where = PackedMatrix(t.channels, t.cols,
                                     t.storage == Storage::precise ? kernels.format(DType::f32) : format);
            slot.matrix = &where;
            Whole& whole = wholes_[t.whole];
            whole.matrix = &where;
            ++whole.missing;
        } else {
            where.resize(static_cast<std::size_t>(t.channels) * static_cast<std::size_t>(t.cols));
            slot.vector = &where;
        }
    });
    memory_ = MatrixMemory(std::min(kPieceBytes, weights_.bytes(config_)));
}

// Blocks that may stay as they are decide it, if they come first. The other tensors of the whole have to agree.
void WeightsBuilder::choose_format(Slot& slot, const Plain& tensor) const {
    PackedMatrix& matrix = *slot.matrix;
    const bool keeps = slot.spec.storage == Storage::chosen_or_blocks && tensor.blocks != nullptr &&
                       tensor.blocks->as_mxfp4 != nullptr;
    const bool kept = &matrix.format() == &kernels_.mxfp4;
    if (keeps == kept) return;
    if (matrix.data() != nullptr) {
        throw InvalidArgument("tensor '" + slot.spec.name + "' is" + (keeps ? "" : " not") +
                              " in MXFP4, unlike that with which it shares a matrix");
    }
    matrix = PackedMatrix(matrix.n(), matrix.k(), kernels_.mxfp4);
}

void WeightsBuilder::keep_blocks(const std::unordered_set<std::string>& wholes) {
    visit_wholes(config_, weights_, [&](const TensorSpec& t, auto& part) {
        if constexpr (std::is_same_v<std::decay_t<decltype(part)>, PackedMatrix>) {
            if (t.storage != Storage::chosen_or_blocks || !wholes.contains(t.whole)) return;
            if (part.data() != nullptr) throw InvalidArgument("tensor '" + t.name + "' was added before");
            if (part.k() % kernels_.mxfp4.step != 0) {
                throw InvalidArgument("tensor '" + t.whole + "' cannot be in MXFP4: its rows of " +
                                      std::to_string(part.k()) + " values are not whole blocks of 32");
            }
            part = PackedMatrix(part.n(), part.k(), kernels_.mxfp4);
        }
    });
}

bool WeightsBuilder::write(const Slot& slot, Plain tensor, Team& team) {
    const TensorSpec& spec = slot.spec;
    const bool scaled = slot.matrix->format().scaled, after_norm = scaled && !spec.norm.empty();
    Whole* source = !scaled || after_norm || !spec.source ? nullptr : &wholes_.at(spec.source->whole);
    if (source != nullptr && (source->missing > 0 || !source->matrix->format().scaled)) source = nullptr;
    std::vector<float> factors, inverse;
    if (after_norm) {
        const auto found = norms_.find(spec.norm);
        factors = found == norms_.end() ? balance_norm(tensor) : found->second;
    } else if (source != nullptr) {
        factors = balance(*spec.source, *source->matrix, tensor);
    }
    if (!factors.empty()) {
        for (int i = 0; i < spec.cols; ++i)
            inverse.push_back(1.0f / factors[static_cast<std::size_t>(after_norm ? i : spec.source->row_of(i))]);
        tensor.factors = inverse.data();
    }
    if (!slot.matrix->write(tensor, spec.to, team, &memory_)) return false;
    --wholes_.at(spec.whole).missing;
    if (after_norm) {
        norms_.emplace(spec.norm, std::move(factors));
    } else if (source != nullptr) {
        for (std::size_t i = 0; i < factors.size(); ++i)
            source->matrix->multiply_channel(spec.source->channels.channel(static_cast<int>(i)), factors[i]);
        balanced_.push_back({*spec.source, std::move(factors)});
    }
    return true;
}

void WeightsBuilder::add(const std::string& name, const Plain& tensor, Team& team) {
    const auto found = slots_.find(name);
    if (found == slots_.end()) throw InvalidArgument("this configuration has no tensor '" + name + "'");
    Slot& slot = found->second;
    if (slot.filled) throw InvalidArgument("tensor '" + name + "' was given twice");
    const TensorSpec& spec = slot.spec;
    if (tensor.rows != spec.rows || tensor.cols != spec.cols) {
        throw InvalidArgument("tensor '" + name + "' must have shape " +
                              shape_text(spec.rows, spec.cols, spec.is_vector) + ", not " +
                              shape_text(tensor.rows, tensor.cols, tensor.cols == 1));
    }
    if (slot.matrix != nullptr) {
        choose_format(slot, tensor);
        if (!write(slot, tensor, team)) {
            throw InvalidArgument("tensor '" + name + "' cannot be stored as " + slot.matrix->format().name +
                                  ": it holds infinities, NaNs or values near the largest float");
        }
    } else {
        std::vector<float> rows(static_cast<std::size_t>(spec.rows) * static_cast<std::size_t>(spec.cols));
        to_floats(tensor, rows.data());
        for (std::ptrdiff_t i = 0; i < spec.rows; ++i) {
            const std::ptrdiff_t channel = spec.to.channel(static_cast<int>(i));
            std::copy_n(rows.data() + i * spec.cols, spec.cols, slot.vector->data() + channel * spec.cols);
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
    visit_wholes(config_, weights_, [&](const TensorSpec& t, auto& part) {
        const std::string& name = t.whole;
        if constexpr (std::is_same_v<std::decay_t<decltype(part)>, PackedMatrix>) {
            const BFloat16* scales = nullptr;
            if (part.format().scaled) {
                scales = static_cast<const BFloat16*>(data.at(name + ".scales"));
                if (!usable(scales, part.scale_count())) {
                    throw InvalidArgument("tensor '" + name + ".scales' holds a scale that is negative or not finite");
                }
            }
            part = PackedMatrix(part.n(), part.k(), part.format(), data.at(name), scales, owner);
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
    std::unordered_map<std::string, std::vector<float>*> vectors;
    visit_wholes(config_, weights_, [&](const TensorSpec& t, auto& part) {
        if constexpr (std::is_same_v<std::decay_t<decltype(part)>, std::vector<float>>) vectors[t.whole] = &part;
    });
    for (const Balanced& b : balanced_) {
        const std::string& whole = b.source.whole;
        const auto bias = vectors.find(whole.substr(0, whole.rfind('.')) + ".bias");
        if (bias == vectors.end()) continue;
        for (std::size_t i = 0; i < b.factors.size(); ++i) {
            (*bias->second)[static_cast<std::size_t>(b.source.channels.channel(static_cast<int>(i)))] *= b.factors[i];
        }
    }
    for (const auto& [norm, factors] : norms_) {
        std::vector<float>& weight = *vectors.at(norm + ".weight");
        for (std::size_t i = 0; i < factors.size(); ++i) weight[i] *= factors[i];
    }
    return std::move(weights_);
}

}  // namespace pygpt
