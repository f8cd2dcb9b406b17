//! Writes GGUF files for tests: sound ones and, on request, damaged ones.
//!
//! Written from the format's description alone; it shares no code with the parser.

/// A metadata value to write.
#[derive(Clone, Debug)]
pub(crate) enum Kv {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Str(Vec<u8>),
    U64(u64),
    I64(i64),
    F64(f64),
    /// Elements of one type; the first decides it (an empty array is of `u32`).
    Arr(Vec<Kv>),
}

impl Kv {
    pub(crate) fn text(text: &str) -> Kv {
        Kv::Str(text.as_bytes().to_vec())
    }

    pub(crate) fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Kv {
        Kv::Arr(texts.into_iter().map(Kv::text).collect())
    }

    /// The type's number in a file.
    pub(crate) fn number(&self) -> u32 {
        match self {
            Kv::U8(_) => 0,
            Kv::I8(_) => 1,
            Kv::U16(_) => 2,
            Kv::I16(_) => 3,
            Kv::U32(_) => 4,
            Kv::I32(_) => 5,
            Kv::F32(_) => 6,
            Kv::Bool(_) => 7,
            Kv::Str(_) => 8,
            Kv::Arr(_) => 9,
            Kv::U64(_) => 10,
            Kv::I64(_) => 11,
            Kv::F64(_) => 12,
        }
    }

    /// The value's bytes, without the type.
    pub(crate) fn payload(&self) -> Vec<u8> {
        match self {
            Kv::U8(v) => v.to_le_bytes().to_vec(),
            Kv::I8(v) => v.to_le_bytes().to_vec(),
            Kv::U16(v) => v.to_le_bytes().to_vec(),
            Kv::I16(v) => v.to_le_bytes().to_vec(),
            Kv::U32(v) => v.to_le_bytes().to_vec(),
            Kv::I32(v) => v.to_le_bytes().to_vec(),
            Kv::F32(v) => v.to_le_bytes().to_vec(),
            Kv::Bool(v) => vec![u8::from(*v)],
            Kv::Str(v) => string(v),
            Kv::U64(v) => v.to_le_bytes().to_vec(),
            Kv::I64(v) => v.to_le_bytes().to_vec(),
            Kv::F64(v) => v.to_le_bytes().to_vec(),
            Kv::Arr(elements) => {
                let number = elements.first().map_or(4, Kv::number);
                let mut bytes = number.to_le_bytes().to_vec();
                bytes.extend((elements.len() as u64).to_le_bytes());
                for element in elements {
                    assert_eq!(element.number(), number, "elements of one type");
                    bytes.extend(element.payload());
                }
                bytes
            }
        }
    }
}

/// A string as a file has it: length, then bytes.
pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat()
}

/// Collects a file's contents; [`build`](GgufWriter::build) lays them out.
#[derive(Clone, Debug)]
pub(crate) struct GgufWriter {
    version: u32,
    alignment: usize,
    metadata: Vec<Vec<u8>>,
    directory: Vec<Vec<u8>>,
    data: Vec<u8>,
}

impl GgufWriter {
    /// Version 3, alignment 32, empty.
    pub(crate) fn new() -> GgufWriter {
        GgufWriter {
            version: 3,
            alignment: 32,
            metadata: Vec::new(),
            directory: Vec::new(),
            data: Vec::new(),
        }
    }

    pub(crate) fn version(mut self, version: u32) -> GgufWriter {
        self.version = version;
        self
    }

    /// Sets the alignment and writes its key. To be called before tensors are added.
    pub(crate) fn alignment(mut self, alignment: u32) -> GgufWriter {
        self.alignment = alignment as usize;
        self.kv("general.alignment", Kv::U32(alignment))
    }

    pub(crate) fn kv(self, key: &str, value: Kv) -> GgufWriter {
        self.raw_kv(key.as_bytes(), value.number(), &value.payload())
    }

    /// A key with a type number and bytes that need not agree.
    pub(crate) fn raw_kv(mut self, key: &[u8], number: u32, payload: &[u8]) -> GgufWriter {
        self.metadata
            .push([&string(key)[..], &number.to_le_bytes(), payload].concat());
        self
    }

    /// A tensor whose data follow those of the tensor before; `shape` is in GGUF order.
    pub(crate) fn tensor(
        mut self,
        name: &str,
        shape: &[u64],
        ggml_type: u32,
        data: &[u8],
    ) -> GgufWriter {
        let offset = self.data.len() as u64;
        self.data.extend(data);
        self.data
            .resize(self.data.len().next_multiple_of(self.alignment), 0);
        self.raw_tensor(name, shape, ggml_type, offset)
    }

    /// A tensor of type F32.
    pub(crate) fn f32_tensor(self, name: &str, shape: &[u64], data: &[f32]) -> GgufWriter {
        let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.tensor(name, shape, 0, &bytes)
    }

    /// A directory entry alone, which need not be true.
    pub(crate) fn raw_tensor(
        mut self,
        name: &str,
        shape: &[u64],
        ggml_type: u32,
        offset: u64,
    ) -> GgufWriter {
        let mut entry = string(name.as_bytes());
        entry.extend((shape.len() as u32).to_le_bytes());
        entry.extend(shape.iter().flat_map(|n| n.to_le_bytes()));
        entry.extend(ggml_type.to_le_bytes());
        entry.extend(offset.to_le_bytes());
        self.directory.push(entry);
        self
    }

    /// The file.
    pub(crate) fn build(&self) -> Vec<u8> {
        self.build_claiming(self.directory.len() as u64, self.metadata.len() as u64)
    }

    /// The file with a header that claims other counts.
    pub(crate) fn build_claiming(&self, tensors: u64, metadata: u64) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(tensors.to_le_bytes());
        file.extend(metadata.to_le_bytes());
        file.extend(self.metadata.concat());
        file.extend(self.directory.concat());
        // Nothing follows metadata alone, so that damaged ones end where they end.
        if !self.directory.is_empty() {
            file.resize(file.len().next_multiple_of(self.alignment), 0);
        }
        file.extend(&self.data);
        file
    }
}
