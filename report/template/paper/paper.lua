-- From notebook to paper: LaTeX inside Markdown, captions, references and headings.

local NUMBERED = {Figure = true, Table = true, Section = true, Equation = true}
local KINDS = {['fig:'] = 'Figure', ['tab:'] = 'Table'}
local TOKENS = {['<unk>'] = true, ['<eos>'] = true}  -- words of the corpus, not HTML
local LONG_TABLE = 30  -- rows; a longer table stays where it is and may break across pages
local SHORT_TABLE = 8  -- rows; a shorter table never breaks but moves, in an appendix too
local WIDE_TABLE = 10  -- columns; a wider table has smaller letters and gaps
local BREAKABLE = '#show figure: set block(breakable: true)\n#set figure(placement: none)\n'
local WHOLE = '#show figure: set block(breakable: false)\n#set figure(placement: floating)\n'
local COMMANDS = {
  ['\\newpage'] = '#pagebreak(weak: true)',
  -- an appendix is tables and little else: they stay below their headings and may break
  ['\\appendix'] = '#counter(heading).update(0)\n#set heading(numbering: "A.1")\n' .. BREAKABLE,
}
local SMALL = '#set table(inset: (x: 2.2pt, y: 4pt))\n#show table: set text(size: 0.8em)\n'

local function typst(text)
  return pandoc.RawBlock('typst', text)
end

local function typst_inline(text)
  return pandoc.RawInline('typst', text)
end

local function reference(label)
  return pandoc.Link(label, '#' .. label, '', {['reference-type'] = 'ref', reference = label})
end

local function equation_reference(label)
  return {pandoc.Str '(', reference(label), pandoc.Str ')'}
end

-- LaTeX -> pandoc ---------------------------------------------------------------------------

-- pandoc takes one row for a table's header; the rule below the header tells how many there are
local function restore_header(table, latex)
  local _, rows = (latex:match('\\toprule(.-)\\midrule') or ''):gsub('\\\\', '')
  if #table.head.rows > 0 or rows == 0 or #table.bodies[1].body < rows then return end
  for _ = 1, rows do
    table.head.rows:insert(table.bodies[1].body:remove(1))
  end
  return table
end

local function read_latex(latex)
  latex = latex:gsub('\\endfirsthead.-\\endlastfoot', '')  -- longtable: Typst repeats the header
  return pandoc.read(latex, 'latex').blocks:walk {
    Table = function(table) return restore_header(table, latex) end,
    Div = function(div)
      local table = div.content[1]
      if not table or table.t ~= 'Table' then return end
      table.identifier = div.identifier
      return table
    end,
    Link = function(link)
      if link.attributes['reference-type'] == 'eqref' then
        return equation_reference(link.attributes.reference)
      end
    end,
    Para = function(para)  -- what sympy displays
      local formula = para.content[1]
      if #para.content > 1 or formula.t ~= 'Math' then return end
      return pandoc.Para {pandoc.Math('DisplayMath', (formula.text:gsub('\\displaystyle', '')))}
    end,
  }
end

local function raw_block(raw)
  if raw.format ~= 'latex' and raw.format ~= 'tex' then return end
  local command = COMMANDS[raw.text:match('^\\%a+')]
  return command and typst(command) or read_latex(raw.text)
end

local function raw_inline(raw)
  if TOKENS[raw.text] then return pandoc.Str(raw.text) end
  if raw.format ~= 'latex' and raw.format ~= 'tex' then return end
  local command, label = raw.text:match('^\\(%a*ref){(.+)}$')
  if command == 'ref' then return reference(label) end
  if command == 'eqref' then return equation_reference(label) end
  return pandoc.utils.blocks_to_inlines(read_latex(raw.text))
end

-- Figure~\ref{fig:x}: the number stays on the line of its word
local function tie(inlines)
  for n, inline in ipairs(inlines) do
    local following = inlines[n + 1]
    if inline.t == 'Str' and following and (following.t == 'RawInline' or following.t == 'Math') then
      inline.text = inline.text:gsub('~$', '\u{a0}')
    end
  end
  return inlines
end

local function inline_math(math)
  if math.mathtype == 'InlineMath' and math.text:match('^\\%a*ref{.+}$') then
    return raw_inline(pandoc.RawInline('tex', math.text))
  end
end

-- Figures, tables, equations, headings ------------------------------------------------------

-- a display output with caption and label in its metadata: the first paragraph is the caption
local function captioned(div)
  if not div.classes:includes('captioned') then return end
  local caption = {long = {div.content:remove(1)}}
  local table = div.content[1]
  if table.t ~= 'Table' then
    return pandoc.Figure(div.content, caption, {id = div.identifier})
  end
  table.caption, table.identifier = caption, div.identifier
  return div.content
end

local function decimals(text)
  return (text:gsub('−', '-'):match('^[-+]?[%d,]+(%.?%d*)$'))
end

local function suffix(text)  -- a bracket, or the mark of a run that was stopped
  return text:match(' %b()$') or text:match('‡$')
end

-- in a column of numbers, what one lacks of the longest decimals or suffix stands unseen behind it
local function align_numbers(table)
  local rows = table.bodies[1].body
  for column, spec in ipairs(table.colspecs) do
    for _, tail in ipairs(spec[1] == 'AlignRight' and {decimals, suffix} or {}) do
      local texts, longest = {}, ''
      for n, row in ipairs(rows) do
        texts[n] = pandoc.utils.stringify(row.cells[column].contents)
        local own = tail(texts[n]) or ''
        if #own > #longest then longest = own end
      end
      for n, text in ipairs(texts) do
        local own = tail(text) or tail == suffix and text:match('%d') and ''
        if own and (tail == decimals or own == '') and #own < #longest then
          local unseen = typst_inline('#hide[' .. longest:sub(#own + 1) .. ']')
          rows[n].cells[column].contents[1].content:insert(unseen)
        end
      end
    end
  end
end

local function fitted(table)
  align_numbers(table)
  local rows = #table.bodies[1].body
  local rules = rows > LONG_TABLE and BREAKABLE or rows < SHORT_TABLE and WHOLE or ''
  if #table.colspecs > WIDE_TABLE then rules = rules .. SMALL end
  if rules == '' then return table end
  return {typst('#[' .. rules), table, typst(']')}
end

-- no line that ends in a colon, and no bold lead-in, is the last on its page
local function kept_with_next(inlines)
  local text = pandoc.utils.stringify(inlines)
  if not text:match(':%s*$') and not (#inlines == 1 and inlines[1].t == 'Strong') then
    return {pandoc.Para(inlines)}
  end
  return {typst('#keep-with-next['), pandoc.Para(inlines), typst(']')}
end

local function keep_with_next(para)
  local blocks, line = pandoc.Blocks {}, pandoc.Inlines {}
  for _, inline in ipairs(para.content) do
    local formula = inline.t == 'Math' and inline.mathtype == 'DisplayMath'
    if formula and pandoc.utils.stringify(line):match(':%s*$') then
      blocks:extend(kept_with_next(line))
      line = pandoc.Inlines {}
    end
    line:insert(inline)
  end
  blocks:extend(kept_with_next(line))
  return blocks
end

local function centred_image(para)
  if #para.content == 1 and para.content[1].t == 'Image' then
    return {typst('#align(center)['), para, typst(']')}
  end
end

-- pandoc 3.9 scales the glyph of \big( and keeps text spacing; Typst stretches a delimiter
local function stretch(size, delimiter)
  return 'stretch(' .. delimiter:gsub('^%p$', '\\%0') .. ', size: #' .. size .. ')'
end

local function to_typst(math)
  math.text = math.text:gsub('\\begin{cases}.-\\end{cases}', function(cases)
    return cases:gsub('[^\\]&', '%0\\quad ')  -- Typst leaves no gap between the columns
  end)
  local scale = '#scale%(x: (%d+%%), y: %d+%%%)'
  return pandoc.write(pandoc.Pandoc {pandoc.Plain {math}}, 'typst')
    :gsub(scale .. '%[(\\.)%]', stretch)
    :gsub(scale .. '%[([^%]]+)%]', stretch)
    :gsub('%.circle', '.o')  -- renamed in Typst 0.15
end

-- a label in the Typst source is what numbers an equation
local function formula(math)
  local label = ''
  math.text = math.text:gsub('\\label%s*{(.-)}', function(name)
    label = ' <' .. name .. '>'
    return ''
  end)
  return pandoc.RawInline('typst', to_typst(math) .. label)
end

-- [](#fig:x) is the number, [Figure](#fig:x) reads "Figure 1", [curves](#fig:x) "curves (Figure 1)"
local function numbered_link(link)
  local text, label = pandoc.utils.stringify(link), link.target:match('^#(.+)')
  if not label or link.attributes.reference then return end
  if text == '' then return reference(label) end
  if NUMBERED[text] then return {text .. '\u{a0}', reference(label)} end
  local kind = KINDS[label:match('^%a+:')]
  if kind then
    local typst = string.format('#in-brackets("%s", "%s");', kind, label)
    link.content:insert(pandoc.RawInline('typst', typst))
    return link.content
  end
end

-- pandoc's own escapes miss what is a sign at the start of a table's cell: / = + - 1. [
local function escaped(str)
  return pandoc.RawInline('typst', (str.text:gsub('%p', '\\%0')))
end

-- ## is a section; the first # is the title, unless the metadata give one
local function promote_headings(doc)
  local title
  doc.blocks = doc.blocks:walk {
    Header = function(header)
      if header.level == 1 and not title then
        title = header.content
        return {}
      end
      header.level = math.max(1, header.level - 1)
      if pandoc.utils.stringify(header) == 'References' then header.classes:insert('unnumbered') end
      return header
    end,
  }
  doc.meta.title = doc.meta.title or title or doc.meta.name
  return doc
end

return {
  {Inlines = tie},
  {RawBlock = raw_block, RawInline = raw_inline, Math = inline_math},
  {Para = keep_with_next},
  {Div = captioned, Math = formula, Link = numbered_link},
  {Table = fitted, Para = centred_image},
  {Pandoc = promote_headings},
  {traverse = 'topdown', Str = escaped, Image = function(image) return image, false end},
}
